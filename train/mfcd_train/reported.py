"""Runs and fusions as a report shows them: with their last evaluation, a name, and the look of their lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.errors import UsageError
from mfcd_train.pictures import Curve
from mfcd_train.report_videos import find_verdicts
from mfcd_train.runlog import EVALUATION, RUN, RunLog, names_of, open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mfcd_core.store import Store
    from mfcd_train.report_videos import Verdicts

COLOURS = ("#2b7fd4", "#d9690f", "#2e9455", "#a05fd0", "#d4447c", "#0f8f98", "#8a7a1e")  # 3:1 on white and on black
LINE_STYLES = ("solid", "dashed", "dotted")
EVALUATION_KEYS = {
    *("clip/top1", "clip/top5", "video/top1", "video/top5", "chance", "per_class", "num_videos", "clips", "protocol"),
    *("num_videos_with_repeated_gops", "seed", "split", "frames", "clip_format", "store_settings"),
    *("store_checksum", "weights_checksum", "intervals", "interval_method"),
}


@dataclass(frozen=True)
class Fusion:
    """The folder that `mfcd-eval fuse` has written: runs judged together, without a training of their own."""

    folder: Path


@dataclass(frozen=True)
class ReportedRun:
    """A run, or a fusion, whose log is None; its evaluation.json and what became of each video, or nothing."""

    folder: Path
    log: RunLog | None
    evaluation: Mapping[str, Any]
    verdicts: Verdicts | None
    name: str
    colour: str
    line_style: str

    @property
    def protocol(self) -> tuple[Any, ...]:
        """What has to be equal for two runs to be compared."""
        keys = ("split", "num_videos", "clips", "protocol", "seed", "num_videos_with_repeated_gops")
        return tuple(self.evaluation[key] for key in keys)

    @property
    def parts(self) -> list[tuple[str, float]]:
        """Names and weights of the runs that a fusion is made of."""
        return [(Path(part["run"]).name, part["weight"]) for part in self.evaluation.get("runs", ())]

    def curve(self, key: str) -> Curve | None:
        """Values of a metric over epochs, or None without any, or before the first epoch ended."""
        records = self.log.read_metrics() if self.log else []
        ends = [record for record in records if "loss/total" not in record]
        logged = [record for record in records if key in record]
        if not (ends and logged):
            return None
        steps_an_epoch = ends[-1]["step"] / ends[-1]["epoch"]
        epochs = np.array([record["step"] for record in logged]) / steps_an_epoch
        return Curve(epochs, np.array([float(record[key]) for record in logged]), self.colour, self.line_style)


def open_run_or_fusion(folder: Path) -> RunLog | Fusion:
    """Open what a report may tell of. Raises UsageError where it is neither."""
    is_fusion = (folder / EVALUATION).exists() and not (folder / RUN).exists()
    return Fusion(folder) if is_fusion else open_run(folder)


def open_reported(store: Store, runs: Sequence[RunLog | Fusion], *, with_accuracy: bool) -> list[ReportedRun]:
    """Runs with their evaluations on `store`, where accuracy is told; else with their training alone.

    Raises UsageError where one was not evaluated, or on another store.
    """
    names = names_of([run.folder for run in runs])
    evaluations = [_read_evaluation(store, run) if with_accuracy else {} for run in runs]
    return [
        ReportedRun(
            folder=run.folder,
            log=run if isinstance(run, RunLog) else None,
            evaluation=evaluation,
            verdicts=find_verdicts(store, run.folder, evaluation),
            name=name,
            colour=COLOURS[i % len(COLOURS)],
            line_style=LINE_STYLES[i // len(COLOURS) % len(LINE_STYLES)],
        )
        for i, (run, name, evaluation) in enumerate(zip(runs, names, evaluations, strict=True))
    ]


def _read_evaluation(store: Store, run: RunLog | Fusion) -> Mapping[str, Any]:
    path, next_step = run.folder / EVALUATION, _how_to_evaluate(store, run)
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{run.folder} has no {EVALUATION}: {next_step}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not readable ({error}): {next_step}") from None
    expected = EVALUATION_KEYS if isinstance(run, RunLog) else EVALUATION_KEYS | {"runs"}
    if not isinstance(evaluation, dict) or not evaluation.keys() >= expected:
        raise UsageError(f"{path} lacks what mfcd-eval writes: {next_step}")
    if not _is_of(store, run, evaluation):
        raise UsageError(f"{path} is of another store than {store.path}: {next_step}")
    return evaluation


def _how_to_evaluate(store: Store, run: RunLog | Fusion) -> str:
    if isinstance(run, RunLog):
        return f"run `mfcd-eval {run.folder} {store.path}` first"
    return f"run `mfcd-eval fuse {store.path} RUN RUN... --out {run.folder}` first"


def _is_of(store: Store, run: RunLog | Fusion, evaluation: Mapping[str, Any]) -> bool:
    """Whether classes and settings are those of the store; a fusion knows its classes by their figures alone."""
    if isinstance(run, RunLog):
        has_classes = run.classes == list(store.classes)
    else:
        has_classes = set(evaluation["per_class"]) <= set(store.classes)
    return has_classes and evaluation["store_settings"] == json.loads(json.dumps(store.settings.to_dict()))
