"""Learning rate schedules: the factor on the highest rate, by epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mfcd_train.config import OptimRecipe


def _step(epoch: float, optim: OptimRecipe) -> float:
    return optim.gamma ** sum(epoch >= milestone for milestone in optim.milestones)


def _cosine(epoch: float, optim: OptimRecipe) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(epoch / optim.epochs, 1)))


def _constant(_epoch: float, _optim: OptimRecipe) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float, OptimRecipe], float]] = {"step": _step, "cosine": _cosine, "constant": _constant}


def learning_rate(epoch: float, optim: OptimRecipe) -> float:
    """Learning rate at a fractional epoch, after linear warm-up."""
    warmup = min(1.0, (epoch + 1e-3) / optim.warmup_epochs) if optim.warmup_epochs else 1.0
    return optim.learning_rate * warmup * SCHEDULES[optim.schedule](epoch, optim)
