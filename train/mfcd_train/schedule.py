"""Learning rate schedules: the factor on the highest rate at a fractional epoch; and what validations say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mfcd_train.config import OptimRecipe


def _step(epoch: float, _epochs: int, milestones: Sequence[int], gamma: float) -> float:
    return gamma ** sum(epoch >= milestone for milestone in milestones)


def _cosine(epoch: float, epochs: int, _milestones: Sequence[int], _gamma: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1)))


def _constant(_epoch: float, _epochs: int, _milestones: Sequence[int], _gamma: float) -> float:
    return 1.0


SCHEDULES: dict[str, Callable[[float, int, Sequence[int], float], float]] = {
    "step": _step,
    "cosine": _cosine,
    "plateau": _step,
    "constant": _constant,
}
"""From epoch, epochs in all, milestones and gamma to a factor; each plateau so far is a milestone passed."""


def warmup_factor(epoch: float, warmup_epochs: float) -> float:
    """Linear rise from almost nothing to 1 over `warmup_epochs`."""
    return min(1.0, (epoch + 1e-3) / warmup_epochs) if warmup_epochs else 1.0


@dataclass(frozen=True, order=True)
class Validation:
    """What an epoch came to; the greater one is better: more right answers or, as many right, less cross entropy."""

    top1: float
    minus_ce: float
    minus_epoch: int

    @property
    def epoch(self) -> int:
        """Epochs that were done."""
        return -self.minus_epoch


def best_epoch(validations: Sequence[Validation]) -> int:
    """Epochs after which validation was best; of equals the first; 0 before any."""
    return max(validations).epoch if validations else 0


def is_over(optim: OptimRecipe, num_epochs: int, validations: Sequence[Validation]) -> bool:
    """Whether training has ended after so many epochs: they were all, or `early_stop` says so."""
    is_stale = bool(validations) and 0 < optim.early_stop <= validations[-1].epoch - best_epoch(validations)
    return is_stale or num_epochs >= optim.epochs


def num_plateaus(validations: Sequence[Validation], patience: int) -> int:
    """How often `patience` epochs went by without a better validation, counted anew after each plateau."""
    best, since, count = None, 0, 0
    for validation in validations:
        if best is None or validation > best:
            best, since = validation, validation.epoch
        elif validation.epoch - since >= patience:
            since, count = validation.epoch, count + 1
    return count
