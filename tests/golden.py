"""The published network's figures: weights by formula, outputs in float64 (see shared/reference/README.md)."""

from __future__ import annotations

import json
import math
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mfcd_train.models.mfnet3d import HINT_LAYERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

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


def published_names() -> list[str]:
    """What torch 0.4 knew of the published network's entries."""
    lines = (ASSETS / "mfnet3d_state_dict.txt").read_text().splitlines()
    return [name for name in (line.split("\t")[0] for line in lines) if not name.endswith("num_batches_tracked")]


def write_published(path: Path, weights: Mapping[str, Tensor], names: list[str] | None = None) -> Path:
    """A file as the authors' trainer left it: DataParallel, no counters, an optimizer by 64-bit ids, not zipped."""
    names = names or [name for name in weights if not name.endswith("num_batches_tracked")]
    state = OrderedDict((f"module.{name}", weights[name]) for name in names)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    momentum = {140_000_000_000_000 + i: {"momentum_buffer": weight} for i, weight in enumerate(state.values())}
    groups = [{"lr": 0.1, "momentum": 0.9, "nesterov": True, "params": list(momentum)}]
    checkpoint = {"epoch": 74, "state_dict": state, "optimizer": {"state": momentum, "param_groups": groups}}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    return path
