"""Means over splits and seeds, and the runs that have none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mfcd_core.errors import UsageError
from mfcd_train.config import DataRecipe, OptimRecipe, Recipe, RunRecipe
from mfcd_train.run_means import check_comparable, mean_of, mean_over_splits
from mfcd_train.runlog import RunLog

if TYPE_CHECKING:
    from pathlib import Path


def result(seed: int, split: str, share: float) -> dict[str, Any]:
    return {"training_seed": seed, "split": split, "video/top1": share, "intervals": {"video/top1": [0, 1]}}


def test_the_mean_of_three_splits_is_that_by_hand_and_has_no_interval() -> None:
    found = mean_of([result(4, "1", 0.6), result(4, "2", 0.7), result(4, "3", 0.5)])
    assert found["video/top1"] == {"mean": pytest.approx(0.6), "half_width": None, "num": 1}
    assert (found["splits"], found["training_seeds"]) == (["1", "2", "3"], [4])


def test_the_interval_is_over_seeds_of_means_over_splits() -> None:
    """Splits differ by 0.4, seeds by 0.02: the interval knows the seeds alone."""
    shares = {(seed, split): 0.3 + 0.4 * (split == "b") + 0.02 * seed for seed in range(3) for split in "ab"}
    found = mean_of([result(seed, split, share) for (seed, split), share in shares.items()])["video/top1"]
    assert (found["mean"], found["num"]) == (pytest.approx(0.52), 3)
    assert found["half_width"] == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)


def test_seeds_without_one_of_the_splits_have_no_mean() -> None:
    assert mean_over_splits({(0, "a"): 0.5, (0, "b"): 0.7, (1, "a"): 0.9}, ["a", "b"]) == {0: pytest.approx(0.6)}


def run(folder: Path, seed: int = 0, recipe: Recipe | None = None) -> RunLog:
    return RunLog(folder, recipe or Recipe(), {"seed": seed, "classes": ["a"]})


def test_runs_that_differ_in_split_seed_and_threads_compare(tmp_path: Path) -> None:
    other = Recipe(data=DataRecipe(split="2"), run=RunRecipe(num_threads=3))
    check_comparable([run(tmp_path), run(tmp_path, 0, other), run(tmp_path, 1), run(tmp_path, 1, other)], list("1212"))


@pytest.mark.parametrize("recipe", [Recipe(optim=OptimRecipe(epochs=2)), Recipe(data=DataRecipe(clip_format="rgb"))])
def test_runs_of_other_recipes_do_not(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match=r"b was trained by another recipe than .*a: expected"):
        check_comparable([run(tmp_path / "a"), run(tmp_path / "b", 1, recipe)], ["1", "1"])


@pytest.mark.parametrize("places", [[(0, "1"), (1, "2")], [(0, "1"), (0, "1")], [(0, "1"), (0, "2"), (1, "1")]])
def test_every_seed_needs_every_split_once(tmp_path: Path, places: list[tuple[int, str]]) -> None:
    runs = [replace(run(tmp_path), facts={"seed": seed}) for seed, _ in places]
    with pytest.raises(UsageError, match="expected every seed with every split, once"):
        check_comparable(runs, [split for _, split in places])
