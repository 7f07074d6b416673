"""What a run took each test video for, the videos that it is surest of, and those that it is most wrong on."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.planes import planes_to_rgb
from mfcd_train.confusion import draw_confusion
from mfcd_train.evaluation import SCORES
from mfcd_train.metrics import confusion_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store import Store

MAX_SHOWN = 6


@dataclass(frozen=True)
class Verdict:
    """What a run says of a video: its class, the answer, the mean scores of both, and its middle I-frame (H, W, 3)."""

    video_id: str
    label: str
    label_score: float
    answer: str
    answer_score: float
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Verdicts:
    """What became of all test videos.

    confusion: the matrix as PNG. best: of the right ones those with the highest score of their class; worst: of the
    wrong ones those with the lowest.
    """

    confusion: bytes
    best: list[Verdict]
    worst: list[Verdict]


def find_verdicts(store: Store, folder: Path, evaluation: Mapping[str, Any]) -> Verdicts | None:
    """Those of `evaluation`, the last one of the run in `folder`; None where its scores are gone or not usable."""
    try:
        with np.load(BytesIO((folder / SCORES).read_bytes())) as kept:
            ids, labels, scores = kept["video_id"].tolist(), kept["label"], kept["scores"].mean(1)
            is_same = json.loads(str(kept["result"])) == evaluation
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    if not is_same:
        return None
    of_label = scores[np.arange(len(ids)), labels]
    right = scores.argmax(1) == labels
    rising = np.argsort(of_label, kind="stable")
    surest, wrongest = rising[right[rising]][::-1][:MAX_SHOWN], rising[~right[rising]][:MAX_SHOWN]
    best, worst = ([_verdict(store, ids[row], labels[row], scores[row]) for row in rows] for rows in (surest, wrongest))
    return Verdicts(draw_confusion(confusion_matrix(scores, labels), store.classes), best, worst)


def _verdict(store: Store, video_id: str, label: int, scores: NDArray[np.float32]) -> Verdict:
    answer = int(scores.argmax())
    names = store.classes[label], store.classes[answer]
    return Verdict(video_id, names[0], float(scores[label]), names[1], float(scores[answer]), _middle(store, video_id))


def _middle(store: Store, video_id: str) -> NDArray[np.uint8]:
    """The I-frame of the middle GOP of a video, (H, W, 3)."""
    num_gops = int(store.videos.num_gops[store.videos.row_of(video_id)])
    return planes_to_rgb(store.read_gop(video_id, num_gops // 2).iframe)
