"""Learning rate schedules: the factor on the highest rate at a fractional epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _step(epoch: float, _epochs: int, milestones: Sequence[int], gamma: float) -> float:
    return gamma ** sum(epoch >= milestone for milestone in milestones)


def _cosine(epoch: float, epochs: int, _milestones: Sequence[int], _gamma: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1)))


def _constant(_epoch: float, _epochs: int, _milestones: Sequence[int], _gamma: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float, int, Sequence[int], float], float]] = {
    "step": _step,
    "cosine": _cosine,
    "constant": _constant,
}
"""From epoch, epochs in all, milestones and gamma to a factor."""


def warmup_factor(epoch: float, warmup_epochs: float) -> float:
    """Linear rise from almost nothing to 1 over `warmup_epochs`."""
    return min(1.0, (epoch + 1e-3) / warmup_epochs) if warmup_epochs else 1.0
