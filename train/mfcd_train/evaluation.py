"""The files that an evaluation leaves in a run folder."""

from __future__ import annotations

import csv
import json
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.atomic import replacing
from mfcd_train.confusion import draw_confusion
from mfcd_train.runlog import EVALUATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store import Store
    from mfcd_train.evaluator import Evaluation
    from mfcd_train.runlog import RunLog

SCORES, CONFUSION_TABLE, CONFUSION_PICTURE = "scores.npz", "confusion.csv", "confusion.png"


def keep_evaluation(
    run: RunLog, store: Store, evaluation: Evaluation, checkpoint: str, *, writes: bool
) -> dict[str, Any]:
    """The result, beside the run and the checkpoint that it is of; where `writes` holds, also as files in the run.

    scores.npz, confusion.csv, confusion.png and, last, evaluation.json take the place of those before.
    """
    origin = {"run": str(run.folder), "checkpoint": checkpoint, "training_seed": int(run.facts["seed"])}
    result = {**origin, "store": str(store.path), **evaluation.result}
    if writes:
        write_evaluation(run.folder, store, evaluation, result)
    return result


def write_evaluation(folder: Path, store: Store, evaluation: Evaluation, result: Mapping[str, Any]) -> None:
    """Write all files of an evaluation into `folder`; `result` says also what it is of."""
    files = {
        SCORES: _as_npz(store, evaluation, result),
        CONFUSION_TABLE: _as_csv(store.classes, evaluation.confusion).encode("utf-8", "replace"),
        CONFUSION_PICTURE: draw_confusion(evaluation.confusion, store.classes),
        EVALUATION: (json.dumps(result, indent=1) + "\n").encode(),
    }
    for name, content in files.items():
        with replacing(folder / name) as part:
            part.write_bytes(content)


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """The result of the last evaluation of a run, or None where there is none that can be read."""
    try:
        result = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def _as_npz(store: Store, evaluation: Evaluation, result: Mapping[str, Any]) -> bytes:
    """Arrays of videos, (videos,), and of their clips, (videos, clips), and the result as JSON; no pickles."""
    draws, shape, file = evaluation.draws, (-1, int(result["clips"])), BytesIO()
    videos = draws.video.reshape(shape)[:, 0]
    np.savez_compressed(
        file,
        video_id=np.array(store.videos.ids[videos].tolist(), str),
        label=store.videos.labels[videos],
        gop=(draws.gop - store.videos.first_gop[draws.video]).reshape(shape),
        top=draws.top.reshape(shape),
        left=draws.left.reshape(shape),
        scores=evaluation.scores.reshape(*shape, len(store.classes)),
        classes=np.array(store.classes, str),
        result=np.array(json.dumps(result)),
    )
    return file.getvalue()


def _as_csv(classes: Sequence[str], confusion: NDArray[np.int64]) -> str:
    """A row a class, a column for each class that its videos may be taken for."""
    text = StringIO()
    rows = [[name, *counts] for name, counts in zip(classes, confusion.tolist(), strict=True)]
    csv.writer(text, lineterminator="\n").writerows([["class \\ taken for", *classes], *rows])
    return text.getvalue()
