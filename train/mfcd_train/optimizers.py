"""Optimizers: what a user types, and how it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer


class BuildOptimizer(Protocol):
    """Builds an optimizer of groups of parameters from plain numbers."""

    def __call__(
        self, groups: Sequence[dict[str, Any]], rate: float, momentum: float, weight_decay: float, *, nesterov: bool
    ) -> Optimizer:
        """Build it; what an optimizer does not know it leaves out."""


def _sgd(
    groups: Sequence[dict[str, Any]], rate: float, momentum: float, weight_decay: float, *, nesterov: bool
) -> Optimizer:
    return torch.optim.SGD(groups, rate, momentum, weight_decay=weight_decay, nesterov=nesterov)


def _adamw(
    groups: Sequence[dict[str, Any]], rate: float, momentum: float, weight_decay: float, *, nesterov: bool
) -> Optimizer:
    del nesterov
    return torch.optim.AdamW(groups, rate, betas=(momentum, 0.999), weight_decay=weight_decay)


def _adam(
    groups: Sequence[dict[str, Any]], rate: float, momentum: float, weight_decay: float, *, nesterov: bool
) -> Optimizer:
    del nesterov
    return torch.optim.Adam(groups, rate, betas=(momentum, 0.999), eps=1e-3, weight_decay=weight_decay)


OPTIMIZERS: dict[str, BuildOptimizer] = {"sgd": _sgd, "adamw": _adamw, "adam": _adam}
"""`sgd` is the paper's; `adamw` (momentum is its first beta) learns faster where there is little time; `adam` is
CoViAR's, with its epsilon of 0.001."""
