"""Optimizers: what a user types, and how it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch.nn import Parameter
    from torch.optim import Optimizer

    from mfcd_train.config import OptimRecipe


def _sgd(parameters: Iterable[Parameter], optim: OptimRecipe) -> Optimizer:
    return torch.optim.SGD(
        parameters,
        optim.learning_rate,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        nesterov=optim.nesterov,
    )


def _adamw(parameters: Iterable[Parameter], optim: OptimRecipe) -> Optimizer:
    return torch.optim.AdamW(
        parameters, optim.learning_rate, betas=(optim.momentum, 0.999), weight_decay=optim.weight_decay
    )


OPTIMIZERS: dict[str, Callable[[Iterable[Parameter], OptimRecipe], Optimizer]] = {"sgd": _sgd, "adamw": _adamw}
"""`sgd` is the paper's; `adamw` (momentum is its first beta) learns faster where there is little time."""
