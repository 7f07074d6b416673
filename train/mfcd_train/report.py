"""One self-contained page on runs: accuracy where they were evaluated, curves, and what the network is fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.pictures import colour_wheel
from mfcd_train.dataset import split_rows
from mfcd_train.page import write_page
from mfcd_train.pictures import build_strip, curves_uri, explained_levels
from mfcd_train.reported import open_reported
from mfcd_train.runlog import VALIDATION_CE, VALIDATION_TOP1, VALIDATION_TOP5

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.gop import Gop
    from mfcd_core.store import Store
    from mfcd_train.pictures import Curve
    from mfcd_train.reported import Fusion, ReportedRun
    from mfcd_train.runlog import RunLog

TEMPLATE = "report.html.j2"
PANELS = (
    ("loss/total", "Total loss (Eq. 8)"),
    ("loss/ce", "Cross entropy (Eq. 7)"),
    ("loss/hint", "Hint loss (Eq. 5)"),
    ("loss/soft", "Soft-logit loss (Eq. 6)"),
    ("clip/top1", "Clip top-1, training batches"),
    (VALIDATION_TOP1, "Clip top-1, test videos"),
    (VALIDATION_TOP5, "Clip top-5, test videos"),
    (VALIDATION_CE, "Cross entropy, test videos"),
    ("learning_rate", "Learning rate"),
)
MAX_CANDIDATES = 64


@dataclass(frozen=True)
class Difference:
    """Accuracy of a run less that of its teacher (or of the first run), as shares, by the keys of evaluation.json."""

    run: ReportedRun
    baseline: ReportedRun

    def of(self, key: str) -> float:
        """Difference of one accuracy."""
        return float(self.run.evaluation[key] - self.baseline.evaluation[key])


@dataclass(frozen=True)
class Panel:
    """Curves of one metric: its picture, and the last value of each run."""

    title: str
    uri: str
    last_values: list[tuple[ReportedRun, str]]


def write_report(store: Store, runs: Sequence[RunLog | Fusion], out: Path, *, with_accuracy: bool = True) -> None:
    """Write a page on `runs`, evaluated on `store`, that needs no other file and no network.

    with_accuracy: without it the page tells of training alone, and no evaluation is needed.
    Raises UsageError where a run was not evaluated, or on another store.
    """
    evaluated = open_reported(store, runs, with_accuracy=with_accuracy)
    trained = [run for run in evaluated if run.log]
    rows = split_rows(store, _split_of(evaluated[0]))["test"]
    video_id, gop_index, gop = choose_gop(store, rows)
    offset = _residual_offset(trained)
    write_page(
        out,
        TEMPLATE,
        store=store,
        store_name=store.path.resolve().name,
        runs=evaluated,
        trained=trained,
        names=_enumerated([run.name for run in evaluated]),
        with_accuracy=with_accuracy,
        differences=_differences(evaluated) if with_accuracy else [],
        comparable=not with_accuracy or len({run.protocol for run in evaluated}) == 1,
        videos_by_class=_videos_by_class(store, rows),
        panels=_panels(trained, 1 / len(store.classes)),
        video_id=video_id,
        gop_index=gop_index,
        num_candidates=len(_candidates(rows)),
        strip=build_strip(gop, residual_offset=offset),
        residual_offset=offset,
        wheel=colour_wheel(),
        settings=dict(_flat(store.settings.to_dict())),
    )


def _split_of(run: ReportedRun) -> str:
    """The split that a run was evaluated on, or else trained on."""
    return str(run.evaluation["split"] if run.evaluation or run.log is None else run.log.recipe.data.split)


def choose_gop(store: Store, rows: NDArray[np.int64]) -> tuple[str, int, Gop]:
    """Of the middle GOPs of up to 64 videos, the one where tracing explains most: video id, GOP number, the GOP."""
    places = [(store.videos.id(row), int(store.videos.num_gops[row]) // 2) for row in _candidates(rows)]
    scores = [explained_levels(store.read_gop(*place)) for place in places]
    video_id, gop_index = places[int(np.argmax(scores))]
    return video_id, gop_index, store.read_gop(video_id, gop_index)


def _candidates(rows: NDArray[np.int64]) -> list[int]:
    places = np.linspace(0, len(rows) - 1, min(MAX_CANDIDATES, len(rows)))
    return [int(row) for row in rows[places.astype(np.int64)]]


def _differences(runs: Sequence[ReportedRun]) -> list[Difference]:
    """Every student beside its teacher; where no teacher is among the runs, every run beside the first."""
    by_folder = {str(run.folder.resolve()): run for run in runs}
    students = [(run, by_folder.get(run.log.facts.get("teacher") or "")) for run in runs if run.log]
    return [Difference(run, teacher) for run, teacher in students if teacher] or [
        Difference(run, runs[0]) for run in runs[1:]
    ]


def _videos_by_class(store: Store, rows: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(store.videos.labels[rows], minlength=len(store.classes))
    return {name: int(count) for name, count in zip(store.classes, counts, strict=True) if count}


def _panels(runs: Sequence[ReportedRun], chance: float) -> list[Panel]:
    panels = []
    for key, title in PANELS:
        if key == VALIDATION_TOP5 and chance >= 1 / 5:
            continue  # every answer is among five
        curves = [(run, curve) for run in runs if (curve := run.curve(key))]
        if curves:
            panels.append(_panel(key, title, curves, chance))
    return panels


def _panel(key: str, title: str, curves: Sequence[tuple[ReportedRun, Curve]], chance: float) -> Panel:
    share, smoothed = "/top" in key, not key.startswith("validation/") and key != "learning_rate"
    level = chance * (5 if key == VALIDATION_TOP5 else 1) if share else None
    return Panel(
        title=title,
        uri=curves_uri([c for _, c in curves], smoothed=smoothed, share=share, chance=level),
        last_values=[(run, f"{c.values[-1]:.1%}" if share else f"{c.values[-1]:.3g}") for run, c in curves],
    )


def _residual_offset(runs: Sequence[ReportedRun]) -> float:
    """Of the last run that is fed residuals: what its pictures were made with."""
    recipes = [run.log.recipe.data for run in runs if run.log]
    return next((r.residual_offset for r in reversed(recipes) if CLIP_FORMATS[r.clip_format].source == "residual"), 0.0)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return flat


def _enumerated(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
