"""Recipes as files: what is shipped says what the paper says, extends instead of copying, and trains."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import TYPE_CHECKING

import pytest
import tomli_w
import torch
from tiny_runs import SIDE_PX, run_command

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.errors import UsageError
from mfcd_train import recipe_files
from mfcd_train.build import build_model
from mfcd_train.config import Recipe
from mfcd_train.models.mfnet3d import HINT_LAYERS
from mfcd_train.recipe_files import load_recipe, shipped_recipes
from mfcd_train.runlog import open_run
from mfcd_train.train import main

if TYPE_CHECKING:
    from pathlib import Path
from training import measured, train

SHIPPED = list(shipped_recipes())
DEMO = [name for name in SHIPPED if name.startswith("demo-")]
COVIAR = ["coviar-iframe", "coviar-motion", "coviar-residual"]
STUDENTS = ["student", "student-no-teacher", "student-residual", "student-residual-only"]


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


# What is shipped


def test_the_papers_recipes_and_their_demos_are_shipped() -> None:
    papers = ["teacher", *STUDENTS]
    twins = [f"demo-{name}" for name in papers]
    kinetics = ["kinetics-rgb", "kinetics-compressed", "finetune-rgb", "finetune-compressed"]
    assert sorted([*papers, *twins, *kinetics, *COVIAR, *(f"demo-{name}" for name in COVIAR)]) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_builds_and_comes_back_from_toml(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = write(tmp_path / "recipe.toml", tomli_w.dumps(recipe.to_dict()))
    assert load_recipe(path) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with torch.device("meta"):
        network = build_model(recipe, 101)
    clip_format, size = CLIP_FORMATS[recipe.data.clip_format], recipe.data.crop_size
    length = recipe.data.num_frames or clip_format.num_slots(12)
    clips = torch.empty(2, clip_format.num_channels, length, size, size, device="meta")
    assert network(clips).shape == (2, 101)
    assert sum(p.numel() for p in network.parameters()) == 7_766_437 or name in (*DEMO, *COVIAR)


@pytest.mark.parametrize("name", ["teacher", *STUDENTS, "kinetics-compressed"])
def test_the_papers_recipes_train_as_the_paper(name: str) -> None:
    recipe = load_recipe(name)
    optim, data = recipe.optim, recipe.data
    assert (optim.optimizer, optim.learning_rate, optim.momentum, optim.weight_decay) == ("sgd", 0.005, 0.9, 1e-4)
    assert (data.frame_size, data.crop_size, data.flip) == (256, 224, 0.5)
    assert (recipe.model.width, recipe.model.depth) == (1.0, (3, 4, 6, 3))
    assert optim.rate_at(0) == 0.005


@pytest.mark.parametrize("prefix", ["", "demo-"])
def test_rows_of_the_ablation_differ_in_clip_and_teacher_alone(prefix: str) -> None:
    expected = {
        "student": ("augmented", True),
        "student-no-teacher": ("augmented", False),
        "student-residual": ("residual", False),
        "student-residual-only": ("residual-only", False),
    }
    recipes = {name: load_recipe(prefix + name) for name in STUDENTS}
    assert {n: (r.data.clip_format, r.distill.needs_teacher) for n, r in recipes.items()} == expected
    values = [r.to_dict() for r in recipes.values()]
    for value in values:
        del value["distill"], value["data"]["clip_format"]
    assert all(value == values[0] for value in values)


@pytest.mark.parametrize("prefix", ["", "demo-"])
def test_teachers_see_rgb_at_the_size_of_their_students(prefix: str) -> None:
    teacher, student = load_recipe(f"{prefix}teacher"), load_recipe(f"{prefix}student")
    assert teacher.data.clip_format == "rgb"
    assert not teacher.distill.needs_teacher
    assert min(student.distill.hint_weight, student.distill.soft_weight) > 0
    assert teacher.model == student.model  # hints compare layer by layer
    assert (teacher.data.frame_size, teacher.data.crop_size) == (student.data.frame_size, student.data.crop_size)


@pytest.mark.parametrize("name", ["demo-student", "kinetics-compressed", "finetune-compressed"])
def test_full_methods_share_their_losses(name: str) -> None:
    assert load_recipe(name).distill == load_recipe("student").distill
    assert load_recipe(name).data.clip_format == "augmented"


def test_the_full_methods_losses_are_the_printed_ones() -> None:
    distill = load_recipe("student").distill
    assert distill.hint_layers == HINT_LAYERS
    assert (distill.hint_reduction, distill.soft_direction) == ("mean", "student-teacher")


def test_fine_tuning_is_the_one_that_was_published() -> None:
    """Classifier x1, rest x0.2, Nesterov, batch 32, x0.1 after 2, 4 and 6 x 1e5 samples of UCF101's 9537 videos."""
    optim = load_recipe("finetune-rgb").optim
    assert (optim.learning_rate, optim.backbone_factor, optim.nesterov) == (0.005, 0.2, True)
    assert [round(epochs * 9537, -5) for epochs in optim.milestones] == [2e5, 4e5, 6e5]
    assert load_recipe("finetune-compressed").optim == optim


@pytest.mark.parametrize("name", DEMO)
def test_demo_recipes_build_a_small_network(name: str) -> None:
    recipe = load_recipe(name)
    assert sum(parameter.numel() for parameter in build_model(recipe, 6).parameters()) < 1e6
    assert recipe.data.frame_size <= 128


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_name_their_section_of_the_paper(name: str) -> None:
    lines = (resources.files("mfcd_train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# {shipped_recipes()[name]}"
    assert len(lines[0]) < 84
    assert lines[0].endswith(".")
    head = " ".join(line for line in lines[:8] if line.startswith("# "))
    assert "Paper, section" in head


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_say_nothing_twice(name: str) -> None:
    """No key repeats what it has from the recipe that is extended, so that nothing can drift apart."""
    values = tomllib.loads((resources.files("mfcd_train") / "recipes" / f"{name}.toml").read_text(encoding="utf-8"))
    if "extends" not in values:
        assert name == "teacher"
        return
    base = recipe_files._read(values.pop("extends"))
    assert [f"{s}.{key}" for s in values for key in values[s] if base.get(s, {}).get(key) == values[s][key]] == []


def test_help_lists_the_recipes_with_a_line_each() -> None:
    shown = run_command(main, "--help").out.splitlines()
    assert [line.split(maxsplit=1) for line in shown[-len(SHIPPED) :]] == list(map(list, shipped_recipes().items()))


@pytest.mark.parametrize("name", sorted(DEMO, key=lambda name: name != "demo-teacher"))
def test_demo_recipes_train(name: str, tiny_store: Path, tmp_path: Path, teacher_run: Path) -> None:
    """Two steps each; the store is smaller than their videos."""
    size = [f"data.frame_size={SIDE_PX}", "data.crop_size=28", "data.batch_size=3", "optim.epochs=1"]
    size += ["run.report=false", "run.tensorboard=false"]
    settings = [argument for setting in size for argument in ("--set", setting)]
    teacher = ["--teacher", teacher_run] if load_recipe(name).distill.needs_teacher else []
    done = train(tiny_store, name, tmp_path, *settings, *teacher)  # type: ignore[arg-type]
    assert done.status == 0, done.err
    assert measured(tmp_path)[-1]["step"] == 2
    assert open_run(tmp_path).recipe == load_recipe(name, size)


# What extends another


def test_a_recipe_changes_keys_of_the_one_it_extends(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.toml", 'extends = "student"\n[optim]\nepochs = 3\n[distill]\ntemperature = 2\n')
    expected = load_recipe("student", ["optim.epochs=3", "distill.temperature=2"])
    assert load_recipe(mine) == expected
    assert load_recipe(mine, ["optim.epochs=9"]) == load_recipe("student", ["optim.epochs=9", "distill.temperature=2"])
    assert "extends" not in expected.to_dict()


def test_a_recipe_extends_a_file_beside_it_and_so_on(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", 'extends = "demo-teacher"\n[data]\nflip = 0.25\n')
    mine = write(tmp_path / "mine.toml", 'extends = "base.toml"\n[data]\nbatch_size = 4\n')
    assert load_recipe(mine) == load_recipe("demo-teacher", ["data.flip=0.25", "data.batch_size=4"])


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"techer"', r"recipe '.*techer': expected a TOML file or one of coviar-iframe"),
        ('"../secret.toml"', r"extends '../secret.toml': expected a shipped recipe, or a file beside it"),
        ('"/etc/passwd"', r"extends '/etc/passwd': expected a shipped recipe, or a file beside it"),
        ('["teacher"]', r"extends \['teacher'\]: expected a shipped recipe"),
        ("3", r"extends 3: expected a shipped recipe"),
        ('"a.toml"', r"extends itself, by way of .*a.toml"),
        ('"b.toml"', r"extends itself, by way of .*a.toml and .*b.toml"),
    ],
)
def test_what_cannot_be_extended_is_said(tmp_path: Path, base: str, message: str) -> None:
    write(tmp_path / "b.toml", 'extends = "a.toml"\n')
    with pytest.raises(UsageError, match=message):
        load_recipe(write(tmp_path / "a.toml", f"extends = {base}\n"))


def test_a_section_of_an_extended_recipe_must_stay_a_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="section 'optim' is 3: expected a table"):
        load_recipe(write(tmp_path / "a.toml", 'extends = "teacher"\noptim = 3\n'))


# What is refused


def test_an_unknown_recipe_is_told_apart_from_those_shipped() -> None:
    with pytest.raises(UsageError, match=r"recipe 'techer': expected a TOML file or one of coviar-iframe, .*teacher"):
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
