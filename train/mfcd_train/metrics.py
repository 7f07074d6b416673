"""Accuracy of clips and videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def topk_accuracy(scores: NDArray[np.float32], labels: NDArray[np.int32], k: int) -> float:
    """Share of rows of `scores` (n, classes) whose label (n,) is among the k highest; ties and NaN count against it."""
    own = scores[np.arange(len(labels)), labels][:, None]
    rank = (~(scores < own)).sum(1) - 1
    return float((rank < k).mean())


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
