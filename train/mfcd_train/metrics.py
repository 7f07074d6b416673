"""Accuracy of clips and videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def topk_right(scores: NDArray[np.float32], labels: NDArray[np.int32], k: int) -> NDArray[np.bool_]:
    """Whether the label (n,) of each row of `scores` (n, classes) is among the k highest, (n,).

    Ties and NaN count against it.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    rank = (~(scores < own)).sum(1) - 1
    right: NDArray[np.bool_] = rank < k
    return right


def topk_accuracy(scores: NDArray[np.float32], labels: NDArray[np.int32], k: int) -> float:
    """Share of rows that are right, see `topk_right`."""
    return float(topk_right(scores, labels, k).mean())


def confusion_matrix(scores: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """How often each class (rows) has its highest score for each class (columns), (classes, classes)."""
    num = scores.shape[1]
    return np.bincount(labels * num + scores.argmax(1), minlength=num * num).reshape(num, num)


def video_scores(clip_scores: NDArray[np.float32], clips: int) -> NDArray[np.float32]:
    """Mean of the softmax of each video's `clips` consecutive rows: (videos * clips, classes) to (videos, classes)."""
    means: NDArray[np.float32] = clip_scores.reshape(-1, clips, clip_scores.shape[1]).mean(1)
    return means


def mean_cross_entropy(scores: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Mean of -log of the score of each row's label (n,), for scores (n, classes) that add up to 1."""
    own = scores[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())


def points(share: float) -> str:
    """A difference of shares in points, with its sign: `+1.2`."""
    rounded = round(share * 100, 1)
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0"
