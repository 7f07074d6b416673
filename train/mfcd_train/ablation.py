"""The paper's ablation on any store: networks that differ in clip and losses alone (Tables 2 and 3)."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import torch

from mfcd_core.console import say, warn
from mfcd_core.errors import MfcdError, StoreError, UsageError
from mfcd_train.build import build_fabric, load_model
from mfcd_train.checkpoint import CHECKPOINT, load_checkpoint, weights_checksum
from mfcd_train.evaluation import keep_evaluation, read_evaluation
from mfcd_train.evaluator import evaluate
from mfcd_train.losses import DivergedError
from mfcd_train.recipe_files import load_recipe
from mfcd_train.train import begun, is_trained, train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lightning_fabric import Fabric

    from mfcd_core.store import Store
    from mfcd_train.config import Recipe
    from mfcd_train.runlog import RunLog


class TeacherError(MfcdError):
    """The run that a student would have mimicked failed."""


FAMILIES = {"paper": "", "demo": "demo-"}
"""What the names of the shipped recipes begin with."""
TEACHER, FULL = "teacher", "student"
TITLES = {
    TEACHER: "RGB",
    FULL: "full method",
    "student-no-teacher": "I + augmented residuals",
    "student-residual": "I + residuals",
    "student-residual-only": "residuals only",
}
"""Rows of the table, by the name of their recipe."""
OWN_KEYS = ("data.clip_format", "data.split")
"""Keys of a recipe that an ablation sets itself."""
FAULTS = (DivergedError, StoreError, TeacherError, torch.OutOfMemoryError)
"""What costs one run alone."""


@dataclass(frozen=True)
class Trial:
    """One run of the ablation."""

    row: str
    split: str
    seed: int

    def __str__(self) -> str:
        return f"{TITLES[self.row]}, split {self.split}, seed {self.seed}"


def build_recipes(family: str, overrides: Sequence[str]) -> dict[str, Recipe]:
    """The recipe of each row: its own clip format and losses, and all else, schedule included, as the RGB row.

    Overrides of [distill] are for the row with a teacher. Raises UsageError for what `load_recipe` refuses, for keys
    that an ablation sets itself, and where the full method would be left without its teacher.
    """
    names = [override.partition("=")[0].strip() for override in overrides]
    if own := [name for name in names if name in OWN_KEYS]:
        raise UsageError(f"--set {own[0]}: each row has its own clip format; choose splits with --split")
    plain = [text for text, name in zip(overrides, names, strict=True) if not name.startswith("distill.")]
    shipped = {row: load_recipe(FAMILIES[family] + row, overrides if row == FULL else plain) for row in TITLES}
    if not shipped[FULL].distill.needs_teacher:
        raise UsageError("--set leaves the full method without a teacher: expected a distill weight above 0")
    common = shipped[TEACHER]
    return {
        row: replace(common, data=replace(common.data, clip_format=own.data.clip_format), distill=own.distill)
        for row, own in shipped.items()
    }


@dataclass(frozen=True)
class Ablation:
    """What is to be trained and how it is evaluated.

    recipes: by row. init: weights that every run starts from; None: random ones by seed, the same for all rows.
    clips, protocol: of the evaluation of every run, whose seed is 0.
    """

    out: Path
    recipes: Mapping[str, Recipe]
    splits: Sequence[str]
    num_seeds: int
    init: Path | None
    clips: int
    protocol: str
    device: str = "auto"

    @property
    def trials(self) -> list[Trial]:
        """Every run, in order: a whole table by the first seed, then the next seed; a teacher before its student."""
        return [Trial(row, split, seed) for seed in range(self.num_seeds) for split in self.splits for row in TITLES]

    def folder_of(self, trial: Trial) -> Path:
        """The run folder of a trial."""
        return self.out / "runs" / f"split-{quote(trial.split, safe='')}" / f"seed-{trial.seed}" / trial.row

    def recipe_of(self, trial: Trial) -> Recipe:
        """The recipe of a trial."""
        recipe = self.recipes[trial.row]
        return replace(recipe, data=replace(recipe.data, split=trial.split))

    def finish(self, trial: Trial, store: Store) -> dict[str, Any]:
        """Train and evaluate as far as that was not yet done; returns the result of `evaluate`."""
        recipe = self.recipe_of(trial)
        fabric = build_fabric(recipe, self.device)  # anew: the scaler of 16-mixed remembers the run before
        teacher = self.folder_of(replace(trial, row=TEACHER)) if recipe.distill.needs_teacher else None
        init = str(self.init) if self.init else "none"
        folder = self.folder_of(trial)
        with begun(folder, recipe, store, fabric, seed=trial.seed, teacher=teacher, init=init) as run:
            if not is_trained(run):
                train(run, store, fabric)
                fabric.barrier()  # the others find the last checkpoint
            return self._evaluate(run, store, fabric)

    def _evaluate(self, run: RunLog, store: Store, fabric: Fabric) -> dict[str, Any]:
        asked: dict[str, Any] = {"split": run.recipe.data.split, "clips": self.clips, "protocol": self.protocol}
        asked["seed"] = 0
        marks = {
            "store_checksum": store.checksum,
            "weights_checksum": weights_checksum(load_checkpoint(run.folder)["model"]),
        }
        done = read_evaluation(run.folder)
        if done and all(done.get(key) == value for key, value in (asked | marks).items()):
            return done
        evaluation = evaluate(fabric, load_model(run, fabric), store, run.recipe, **asked)
        return keep_evaluation(run, store, evaluation, CHECKPOINT, writes=fabric.is_global_zero)


@dataclass(frozen=True)
class Pace:
    """Seconds that runs took, by row: how long the others will."""

    took: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def left(self, trials: Sequence[Trial]) -> str:
        """What `trials` will take, in words; empty before anything is known."""
        if not self.took:
            return ""
        means = {row: fmean(seconds) for row, seconds in self.took.items()}
        seconds = sum(means.get(trial.row, fmean(means.values())) for trial in trials)
        return f", about {max(round(seconds / 60), 1)} min left"


@dataclass(frozen=True)
class Outcome:
    """What the trials came to so far: results of `evaluate`, and reasons of those that failed."""

    results: dict[Trial, dict[str, Any]] = field(default_factory=dict)
    failed: dict[Trial, str] = field(default_factory=dict)


def run_trials(ablation: Ablation, store: Store) -> Iterator[Outcome]:
    """Bring every trial to its end; what they came to so far, after each of them.

    A run that diverges, finds a damaged GOP or lacks memory costs itself and its student.
    """
    trials, pace, outcome = ablation.trials, Pace(), Outcome()
    for number, trial in enumerate(trials, 1):
        say(f"run {number} of {len(trials)}: {trial}{pace.left(trials[number - 1 :])}")
        is_new, start = not ablation.folder_of(trial).exists(), time.monotonic()
        _try(ablation, trial, store, outcome)
        if is_new and trial in outcome.results:
            pace.took[trial.row].append(time.monotonic() - start)
        yield outcome


def _try(ablation: Ablation, trial: Trial, store: Store, outcome: Outcome) -> None:
    try:
        if trial.row == FULL and replace(trial, row=TEACHER) in outcome.failed:
            raise TeacherError("its teacher failed")
        outcome.results[trial] = ablation.finish(trial, store)
    except FAULTS as error:
        outcome.failed[trial] = str(error).partition("\n")[0]
        warn(f"{trial} failed: {outcome.failed[trial]}")
