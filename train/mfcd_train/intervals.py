"""95 % intervals: Student's t over seeds, and the bootstrap over videos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 0.95
NUM_RESAMPLED = 2000


@dataclass(frozen=True)
class Estimate:
    """The mean of `num` values, and half the width of its 95 % interval; None where one value has none."""

    mean: float
    half_width: float | None
    num: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student's t interval of independent values, one at least."""
    num = len(values)
    half = t_quantile(num - 1) * stdev(values) / math.sqrt(num) if num > 1 else None
    return Estimate(fmean(values), half, num)


def t_quantile(freedom: int) -> float:
    """The t that Student's distribution with `freedom` degrees, 1 or more, stays within with probability 0.95."""
    low, high = 0.0, math.pi / 2
    while (angle := (low + high) / 2) not in {low, high}:
        low, high = (angle, high) if _share_within(angle, freedom) < LEVEL else (low, angle)
    return math.tan(low) * math.sqrt(freedom)


def _share_within(angle: float, freedom: int) -> float:
    """P(|t| < tan(angle) sqrt(freedom)), a finite sum (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    is_odd = freedom % 2
    term = math.cos(angle) if is_odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + is_odd, freedom, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if is_odd else total


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Percentile intervals of the means of values (videos, measures), from resampled videos: (measures, 2)."""
    random, num = np.random.default_rng(seed), len(values)
    means = [values[random.integers(num, size=num)].mean(0) for _ in range(NUM_RESAMPLED)]
    ends: NDArray[np.float64] = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ends.T
