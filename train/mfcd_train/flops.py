"""Operations of a network, from the shapes that its layers see: on the meta device, without weights or arithmetic."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

MULTIPLYING = (nn.Conv2d, nn.Conv3d, nn.Linear)
NORMALISING = (nn.BatchNorm2d, nn.BatchNorm3d)
ACTIVATING = (nn.ReLU, nn.ReLU6)
BN_OPERATIONS, RELU_OPERATIONS = 4, 1
"""Of the paper's counter, an element: subtract, divide, multiply, add; compare."""


@dataclass(frozen=True)
class Counts:
    """What one pass of a layer or a network takes.

    macs: products of weights, each with its addition. normalised, activated: elements that leave batch normalisation
    and ReLU.
    """

    parameters: int = 0
    macs: int = 0
    normalised: int = 0
    activated: int = 0

    @property
    def operations(self) -> int:
        """The paper's counter: MACs and 5 operations for every element through BN and ReLU (8.53e9 of Eq. 14)."""
        return self.macs + BN_OPERATIONS * self.normalised + RELU_OPERATIONS * self.activated

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def count_layers(build: Callable[[], nn.Module], input_shape: Iterable[int]) -> dict[str, Counts]:
    """Counts by layer name of the network that `build` gives, for one input (C, ..., H, W).

    Raises TypeError for a layer whose products are not known here: nothing is counted as nothing.
    """
    counts: dict[str, Counts] = {}
    with torch.device("meta"), torch.no_grad():
        network = build().eval()
        for name, layer in network.named_modules():
            if not any(layer.children()):
                counts[name] = Counts(parameters=_num_parameters(name, layer))
                layer.register_forward_hook(partial(_record, counts, name))
        network(torch.empty(1, *input_shape))
    return counts


def total(counts: Mapping[str, Counts]) -> Counts:
    """All layers together."""
    return sum(counts.values(), Counts())


def by_stage(counts: Mapping[str, Counts]) -> dict[str, Counts]:
    """Layers summed by the first word of their names."""
    stages: dict[str, Counts] = {}
    for name, count in counts.items():
        stage = name.partition(".")[0]
        stages[stage] = stages.get(stage, Counts()) + count
    return stages


def _num_parameters(name: str, layer: nn.Module) -> int:
    num = sum(parameter.numel() for parameter in layer.parameters())
    if num and not isinstance(layer, MULTIPLYING + NORMALISING):
        raise TypeError(f"{name}: a {type(layer).__name__} has weights, and its operations are not known here")
    return num


def _record(counts: dict[str, Counts], name: str, layer: nn.Module, _inputs: Any, out: Tensor) -> None:  # noqa: ANN401
    num = out.numel()
    if isinstance(layer, MULTIPLYING):
        counts[name] += Counts(macs=num * layer.weight[0].numel())
    elif isinstance(layer, NORMALISING):
        counts[name] += Counts(normalised=num)
    elif isinstance(layer, ACTIVATING):
        counts[name] += Counts(activated=num)
