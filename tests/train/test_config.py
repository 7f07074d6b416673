"""Recipes: what is shipped says what the paper says, and a wrong key or value is named."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from mfcd_core.errors import UsageError
from mfcd_train.build import build_model
from mfcd_train.config import Recipe, describe_keys

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_key_has_a_help_text() -> None:
    for section in fields(Recipe):
        for entry in fields(getattr(Recipe(), section.name)):
            assert entry.metadata["help"], f"{section.name}.{entry.name}"


def test_every_key_is_shown_as_it_is_written_in_toml() -> None:
    shown = describe_keys()
    parsed = [tomllib.loads(entry) for entry in shown]
    found: dict[str, dict[str, Any]] = {}
    for values in parsed:
        for section, keys in values.items():
            found.setdefault(section, {}).update(keys)
    assert found == Recipe().to_dict()
    assert Recipe.from_dict(found) == Recipe()


def test_what_is_shown_of_a_key_has_its_range_or_its_choices() -> None:
    shown = describe_keys()
    assert shown["data.flip = 0.5"] == "probability of a horizontal flip in training; 0 to 1"
    assert shown['optim.schedule = "step"'].endswith("; one of step, cosine, plateau, constant")
    assert shown["run.report = true"] == "write a page on the run at its end"


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
        ({"optim": {"schedule": "poly"}}, r"optim.schedule is 'poly': expected one of step, cosine, plateau, constant"),
        ({"data": {"batch_size": 0}}, r"data.batch_size is 0: expected 1 to 1e\+10"),
        ({"data": {"flip": 1.5}}, r"data.flip is 1.5: expected 0 to 1"),
        ({"data": {"flip": -0.1}}, r"data.flip is -0.1: expected 0 to 1"),
        ({"optim": {"learning_rate": float("inf")}}, r"optim.learning_rate is inf: expected 0 to 1e\+30"),
        ({"optim": {"backbone_factor": 1e39}}, r"optim.backbone_factor is 1e\+39: expected 0 to 1000"),
        ({"optim": {"learning_rate": float("nan")}}, r"optim.learning_rate is nan: expected 0 to 1e\+30"),
        ({"model": {"depth": 4}}, r"model.depth is 4: expected a list, such as \[3, 4, 6, 3\]"),
        ({"model": {"depth": [1, 1, 0, 1]}}, r"model.depth is 0: expected 1 to 1e\+10"),
        ({"model": {"depth": [1, 1, 1.5, 1]}}, r"model.depth is 1.5: expected int"),
        ({"data": {"frame_size": 100, "crop_size": 112}}, r"data.crop_size 112: expected at most data.frame_size 100"),
        (
            {"optim": {"warmup_epochs": 5, "epochs": 4}},
            r"optim.warmup_epochs 5: expected at most optim.epochs, which is 4",
        ),
        ({"optim": {"momentum": 1.0}}, r"optim.momentum is 1.0: expected 0 to 0.9999"),
        ({"optim": {"optimizer": "SGD"}}, r"optim.optimizer is 'SGD': expected one of sgd, adamw"),
        (
            {"distill": {"hint_layers": ["conv6"]}},
            r"distill.hint_layers is 'conv6': expected one of maxpool, conv2, conv",
        ),
        (
            {"distill": {"hint_layers": "conv5"}},
            r"distill.hint_layers is 'conv5': expected a list, such as \['maxpool'",
        ),
        ({"distill": {"hint_layers": []}}, r"distill.hint_layers \[\]: expected each layer once"),
        (
            {"distill": {"hint_layers": ["conv5", "conv5"]}},
            r"expected each layer once, of maxpool, .*, conv5; hint_wei",
        ),
        ({"distill": {"hint_reduction": "max"}}, r"distill.hint_reduction is 'max': expected one of mean, sum"),
        ({"distill": {"soft_direction": "both"}}, r"expected one of student-teacher, teacher-student"),
        ({"distill": {"temperature": 0}}, r"distill.temperature is 0.0: expected 0.001 to 1e\+10"),
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
