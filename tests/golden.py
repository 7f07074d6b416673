"""The published network's figures: weights by formula, outputs in float64 (see shared/reference/README.md)."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mfcd_train.models.mfnet3d import HINT_LAYERS

if TYPE_CHECKING:
    from mfcd_train.models.mfnet3d import MFNet3D

ASSETS = Path(__file__).parent / "assets"
GOLDEN = {figures["num_classes"]: figures for figures in json.loads((ASSETS / "mfnet3d_golden.json").read_text())}
"""By number of classes: 400 with 16 frames is the published network as it is, 101 and 51 have 12 frames."""


def fill_by_formula(network: MFNet3D, seed: int) -> None:
    """Set every entry: a generator seeded by the entry's name."""
    entries = network.state_dict()
    for name, entry in entries.items():
        x = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(entry.shape).astype(np.float32)
        entry.copy_(torch.from_numpy(formula(name, x)) if entry.ndim else torch.zeros(()))


def formula(name: str, x: np.ndarray) -> np.ndarray:
    if name.endswith("running_var"):
        return 0.5 + np.abs(x)
    if name.endswith("bn.weight"):
        return 1 + 0.1 * x
    if name.endswith((".bias", "running_mean")):
        return 0.1 * x
    return x * (0.05 if name == "classifier.weight" else math.sqrt(2 / math.prod(x.shape[1:])))


def assert_golden(network: MFNet3D, num_classes: int, dtype: torch.dtype, tolerance: float) -> None:
    """Compare logits and feature maps of a network that holds the formula's weights."""
    figures = GOLDEN[num_classes]
    seed, frames = figures["seed"], figures["frames"]
    clip = np.random.default_rng([seed, frames]).standard_normal((1, 3, frames, 224, 224)).astype(np.float32)
    with torch.no_grad():
        logits, hints = network.eval().to(dtype).forward_with_hints(torch.from_numpy(clip).to(dtype))
    expected = np.array(figures["logits"])
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=tolerance, atol=tolerance * expected.std())
    assert list(hints) == list(HINT_LAYERS) == list(figures["stages"])
    for name, stage in figures["stages"].items():
        assert list(hints[name].shape) == stage["shape"]
        means = hints[name].mean().item(), hints[name].std().item()
        assert means == pytest.approx((stage["mean"], stage["std"]), rel=tolerance), name
