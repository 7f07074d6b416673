"""Clips in tests: the same arithmetic in NumPy."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from synthetic import write_store

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.planes import planes_to_rgb, residual_to_rgb
from mfcd_core.store import Store
from mfcd_train.dataset import Draws
from mfcd_train.loader import iter_batches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from synthetic import StoredGop
    from torch import Tensor

    from mfcd_core.gop import Gop
    from mfcd_core.store.settings import StoreSettings
    from mfcd_train.assemble import Assembler

    Levels = NDArray[np.float64]

MEAN, SCALE = np.array([124.0, 117.0, 104.0]), 0.0167  # as the paper's network was published
STORED = list(product(["yuv420p", "rgb24"], [1, 2, 4]))
NUM_GOPS = 5
TOP = [0.0, 1.0, 0.47, 0.31, 0.83]  # no place halfway between two
LEFT = [1.0, 0.0, 0.47, 0.66, 0.12]
FLIP = [False, True, False, True, True]


def draw(rows: Sequence[int], top: Sequence[float], left: Sequence[float], flip: Sequence[bool]) -> Draws:
    gop = np.array(rows, np.int64)
    places = (np.array(place, np.float32) for place in (top, left))
    return Draws(np.zeros_like(gop), gop, *places, np.array(flip), np.full(len(gop), 0.5, np.float32))


EVERY_GOP = draw(range(NUM_GOPS), TOP, LEFT, FLIP)
CENTRE = draw([0], [0.5], [0.5], [False])


def assemble(store: Store, assembler: Assembler, draws: Draws, formats: Sequence[str]) -> dict[str, Levels]:
    """Clips (N, T, H, W, C), no longer normalised: in RGB levels, or in pixels of motion."""
    with_motion = any(CLIP_FORMATS[name].needs_motion for name in formats)
    (batch,) = iter_batches(store, draws, len(draws), with_motion=with_motion, num_threads=1)
    return {name: in_levels(clip, name) for name, clip in assembler(batch, formats).items()}


def in_levels(clip: Tensor, name: str) -> Levels:
    assert clip.dtype == torch.float32
    values = clip.double().numpy().transpose(0, 2, 3, 4, 1)
    return values / 0.0625 if name == "motion" else values / SCALE + MEAN


def cut(frames: NDArray[Any], draws: Draws, sample: int, size: tuple[int, int]) -> NDArray[Any]:
    """Crop (T, H, W, C) at even places, then mirror it, which turns (dy, dx) around too."""
    frame_size, crop_size = size
    room = (frame_size - crop_size) // 2
    y, x = (2 * round(float(place[sample]) * room) for place in (draws.top, draws.left))
    cropped = frames[:, y : y + crop_size, x : x + crop_size]
    if not draws.flip[sample]:
        return cropped
    return cropped[:, :, ::-1] * np.array([1, -1]) if cropped.shape[-1] == 2 else cropped[:, :, ::-1]


def expect(gop: Gop, name: str, offset: float) -> Levels:
    """The clip of a whole GOP by its equation, (T, H, W, C)."""
    if name == "rgb":
        return gop.rebuild_frames().astype(float)
    if name == "motion":
        return np.concatenate([np.zeros_like(gop.motion[:1]), gop.motion]).transpose(0, 2, 3, 1).astype(float)
    first = planes_to_rgb(gop.iframe).astype(float)
    if name == "iframe":
        return first[None]
    residual = residual_to_rgb(gop.residual).astype(float) + offset
    if name == "augmented":
        return np.stack([first, *((r + first) / 2 for r in residual)])
    if name == "residual":
        return np.stack([first, *residual])
    assert name == "residual-only"
    return np.stack([residual[0], *residual])


def write_gops(folder: Path, settings: StoreSettings, gops: Sequence[StoredGop]) -> Store:
    return Store(write_store(folder, settings, {"v": gops}))
