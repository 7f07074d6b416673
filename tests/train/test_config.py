"""Recipes: what is shipped says what the paper says, and a wrong key or value is named."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from mfcd_core.errors import UsageError
from mfcd_train.build import build_model
from mfcd_train.config import Recipe
from mfcd_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = sorted(
    entry.name.removesuffix(".toml")
    for entry in (resources.files("mfcd_train") / "recipes").iterdir()
    if entry.is_file()
)
DEMO = [name for name in SHIPPED if name.startswith("demo-")]


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


# What is shipped


def test_the_papers_recipes_and_their_demos_are_shipped() -> None:
    assert {"teacher", "student", "demo-teacher", "demo-student"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_resolves_and_comes_back_from_toml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = write(tmp_path / "recipe.toml", tomli_w.dumps(recipe.to_dict()))
    assert load_recipe(path) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_the_papers_recipes_train_as_the_paper(name: str) -> None:
    recipe = load_recipe(name)
    optim, data = recipe.optim, recipe.data
    assert (optim.optimizer, optim.learning_rate, optim.momentum, optim.weight_decay) == ("sgd", 0.005, 0.9, 1e-4)
    assert (data.frame_size, data.crop_size, data.flip) == (256, 224, 0.5)
    assert (recipe.model.width, recipe.model.depth) == (1.0, (3, 4, 6, 3))
    assert optim.rate_at(0) == 0.005


@pytest.mark.parametrize("prefix", ["", "demo-"])
def test_teachers_see_rgb_and_students_mimic_them_on_compressed_clips(prefix: str) -> None:
    teacher, student = load_recipe(f"{prefix}teacher"), load_recipe(f"{prefix}student")
    assert (teacher.data.clip_format, student.data.clip_format) == ("rgb", "augmented")
    assert not teacher.distill.needs_teacher
    assert student.distill.hint_weight > 0
    assert student.distill.soft_weight > 0
    assert teacher.model == student.model  # hints compare layer by layer
    assert (teacher.data.frame_size, teacher.data.crop_size) == (student.data.frame_size, student.data.crop_size)


@pytest.mark.parametrize("name", DEMO)
def test_demo_recipes_build_a_small_network(name: str) -> None:
    recipe = load_recipe(name)
    assert sum(parameter.numel() for parameter in build_model(recipe, 6).parameters()) < 1e6
    assert recipe.data.frame_size <= 128


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_explain_themselves(name: str) -> None:
    text = (resources.files("mfcd_train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# ")


def test_every_key_has_a_help_text() -> None:
    for section in fields(Recipe):
        for entry in fields(getattr(Recipe(), section.name)):
            assert entry.metadata["help"], f"{section.name}.{entry.name}"


# What is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optm": {}}, r"recipe has no section 'optm': did you mean 'optim'\?"),
        ({"optim": {"learningrate": 0.1}}, r"no key of \[optim\] 'learningrate': did you mean 'learning_rate'\?"),
        ({"data": {"crop": 32}}, r"no key of \[data\] 'crop': did you mean 'crop_size'\?"),
        ({"data": 3}, r"section 'data' is 3: expected a table of keys"),
        ({"data": {"crop_size": "32"}}, r"data.crop_size is '32': expected int, such as 224"),
        ({"data": {"crop_size": 32.0}}, r"data.crop_size is 32.0: expected int"),
        ({"data": {"crop_size": True}}, r"data.crop_size is True: expected int"),
        ({"optim": {"learning_rate": True}}, r"optim.learning_rate is True: expected float"),
        ({"optim": {"nesterov": 1}}, r"optim.nesterov is 1: expected bool"),
        ({"data": {"split": 1}}, r"data.split is 1: expected str"),
        ({"data": {"clip_format": "RGB"}}, r"data.clip_format is 'RGB': expected one of rgb, augmented, residual"),
        ({"optim": {"schedule": "poly"}}, r"optim.schedule is 'poly': expected one of step, cosine, constant"),
        ({"data": {"batch_size": 0}}, r"data.batch_size is 0: expected 1 to inf"),
        ({"data": {"flip": 1.5}}, r"data.flip is 1.5: expected 0 to 1"),
        ({"data": {"flip": -0.1}}, r"data.flip is -0.1: expected 0 to 1"),
        ({"optim": {"learning_rate": float("nan")}}, r"optim.learning_rate is nan: expected 0 to inf"),
        ({"model": {"depth": 4}}, r"model.depth is 4: expected a list, such as \[3, 4, 6, 3\]"),
        ({"model": {"depth": [1, 1, 0, 1]}}, r"model.depth is 0: expected 1 to inf"),
        ({"model": {"depth": [1, 1, 1.5, 1]}}, r"model.depth is 1.5: expected int"),
        ({"data": {"frame_size": 100, "crop_size": 112}}, r"data.crop_size 112: expected at most data.frame_size 100"),
        ({"optim": {"momentum": 1.0}}, r"optim.momentum is 1.0: expected 0 to 0.9999"),
        ({"optim": {"optimizer": "SGD"}}, r"optim.optimizer is 'SGD': expected one of sgd, adamw"),
        ({"optim": {"momentum": 0.0}}, r"optim.momentum 0 with optim.nesterov: expected momentum above 0"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe.from_dict(values)


def test_whole_numbers_are_numbers() -> None:
    recipe = Recipe.from_dict({"optim": {"learning_rate": 1, "milestones": []}, "data": {"flip": 0}})
    assert (recipe.optim.learning_rate, recipe.optim.milestones, recipe.data.flip) == (1.0, (), 0.0)
    assert isinstance(recipe.optim.learning_rate, float)


@pytest.mark.parametrize("optim", [{"momentum": 0.0, "nesterov": False}, {"momentum": 0.0, "optimizer": "adamw"}])
def test_momentum_may_be_zero_where_nothing_needs_it(optim: dict[str, Any]) -> None:
    assert Recipe.from_dict({"optim": optim}).optim.momentum == 0


@pytest.mark.parametrize("depth", [[1, 1, 1], [1, 1, 1, 1, 1]])
def test_a_network_has_four_stages(depth: list[int]) -> None:
    recipe = Recipe.from_dict({"model": {"depth": depth}})
    with pytest.raises(UsageError, match=r"model.depth .*: expected four numbers of units, such as \[3, 4, 6, 3\]"):
        build_model(recipe, 2)


def test_an_unknown_recipe_is_told_apart_from_those_shipped() -> None:
    with pytest.raises(UsageError, match=r"recipe 'techer': expected a TOML file or one of demo-student, .*teacher"):
        load_recipe("techer")


@pytest.mark.parametrize("text", ["[data\n", "[data]\nflip = 0.5\nflip = 0.5\n", "\x00"])
def test_what_is_not_toml_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe '.*recipe.toml' cannot be read"):
        load_recipe(write(tmp_path / "recipe.toml", text))


def test_a_folder_or_other_bytes_are_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "binary.toml"):
        with pytest.raises(UsageError, match="cannot be read"):
            load_recipe(str(path))


# --set


def test_keys_are_set_from_the_command_line() -> None:
    overrides = ["optim.epochs=10", "data.clip_format=residual-only", "model.depth=[1, 2, 3, 4]", "data.split = split2"]
    recipe = load_recipe(
        "teacher", [*overrides, "optim.nesterov=false", "optim.learning_rate=1e-2", 'data.split="a b"']
    )
    assert (recipe.optim.epochs, recipe.data.clip_format, recipe.model.depth) == (10, "residual-only", (1, 2, 3, 4))
    assert (recipe.optim.nesterov, recipe.optim.learning_rate, recipe.data.split) == (False, 0.01, "a b")
    assert load_recipe("teacher", ["data.split = split2"]).data.split == "split2"
    untouched = load_recipe("teacher")
    assert (recipe.distill, recipe.run, recipe.optim.gamma) == (untouched.distill, untouched.run, untouched.optim.gamma)


def test_two_keys_that_need_each_other_are_set_together() -> None:
    recipe = load_recipe("teacher", ["data.frame_size=64", "data.crop_size=56"])
    assert (recipe.data.frame_size, recipe.data.crop_size) == (64, 56)


@pytest.mark.parametrize("override", ["optim.epochs", "epochs=10", "=", "optim"])
def test_a_broken_setting_shows_how_it_is_written(override: str) -> None:
    with pytest.raises(UsageError, match=rf"--set '{override}': expected section.key=value, such as optim.epochs=10"):
        load_recipe("teacher", [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epoch=10", "did you mean 'epochs'"),
        ("optimizer.epochs=10", "did you mean 'optim'"),
        ("optim.epochs=ten", "optim.epochs is 'ten': expected int"),
        ("optim.epochs=", "optim.epochs is '': expected int"),
        ("optim.epochs=2026-01-01", "expected int"),
        ("data.clip_format=audio", "expected one of rgb"),
    ],
)
def test_what_is_set_is_checked(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("teacher", [override])


def test_a_section_that_is_no_table_is_named_even_when_set(tmp_path: Path) -> None:
    path = write(tmp_path / "recipe.toml", "data = 3\n")
    with pytest.raises(UsageError, match="section 'data' is 3"):
        load_recipe(path, ["data.flip=0.1"])


def test_a_recipe_file_may_name_a_few_keys_only(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "mine.toml", "[optim]\nepochs = 3\n"))
    assert recipe.optim.epochs == 3
    assert recipe == Recipe.from_dict({"optim": {"epochs": 3}})
    assert tomllib.loads(tomli_w.dumps(recipe.to_dict()))["optim"]["milestones"] == [15, 25]
