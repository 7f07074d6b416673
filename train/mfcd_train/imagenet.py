"""Weights of torchvision's ResNets for ImageNet, which CoViAR's networks start from, by the names of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

LAYERS = {"conv": "convolution", "bn": "normalization"}
SHORTCUT = ("convolution", "normalization")
UNIT = re.compile(r"layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.([01]))\.(\w+)")
ENDS = {
    "conv1.": "resnet.embedder.embedder.convolution.",
    "bn1.": "resnet.embedder.embedder.normalization.",
    "fc.": "classifier.",
}
STEM = "resnet.embedder.embedder.convolution.weight"
INPUT_NORM = "data_bn."


def from_torchvision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by the names of `FrameResNet`, if they have those of torchvision's ResNets; else as they are."""
    is_theirs = any(UNIT.fullmatch(name) for name in weights)
    return {_rename(name) if is_theirs else name: weight for name, weight in weights.items()}


def _rename(name: str) -> str:
    if found := UNIT.fullmatch(name):
        stage, unit, kind, number, shortcut, entry = found.groups()
        layer = f"layer.{int(number) - 1}.{LAYERS[kind]}" if kind else f"shortcut.{SHORTCUT[int(shortcut)]}"
        return f"resnet.encoder.stages.{int(stage) - 1}.layers.{unit}.{layer}.{entry}"
    end = next((end for end in ENDS if name.startswith(end)), "")
    return ENDS.get(end, "") + name.removeprefix(end)


def new_input(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a `FrameResNet`, what an ImageNet network has not: normalisation of the input, a first layer for motion."""
    kept = {name: entry for name, entry in own.items() if name.startswith(INPUT_NORM)}
    if not kept or kept.keys() & weights.keys():
        return {}
    stem = weights.get(STEM)
    has_other_channels = stem is not None and stem.ndim == 4 and stem.shape[1] != own[STEM].shape[1]
    return {**kept, STEM: own[STEM]} if has_other_channels else kept
