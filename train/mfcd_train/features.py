"""What networks make of the same clip: maps of their layers side by side (the paper's Figures 6-14), and how alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import torch

from mfcd_core.clip import CLIP_FORMATS, MOTION_SCALE, RGB_MEAN, RGB_SCALE
from mfcd_core.errors import UsageError
from mfcd_core.pictures import full_colour_px, motion_colours, to_levels
from mfcd_train.assemble import build_assembler
from mfcd_train.build import load_model
from mfcd_train.dataset import Draws
from mfcd_train.loader import iter_batches
from mfcd_train.models.mfnet3d import MFNet3D

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_fabric import Fabric
    from numpy.typing import NDArray

    from mfcd_core.store import Store
    from mfcd_train.runlog import RunLog

NUM_COLUMNS = 6
COLOUR_MAP = "viridis"
PERCENTILES = (1, 99)  # of a map's values: the ends of its colours


@dataclass(frozen=True)
class Seen:
    """One clip as a network is fed it, and the raw maps of its layers.

    clip: (T, H, W, 3) uint8 picture of what is fed. maps: by layer, (C, T', H', W') float32.
    """

    clip: NDArray[np.uint8]
    maps: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Likeness:
    """How alike the maps of a layer are to those of the first run: means over its channels of Pearson's correlation.

    same: with the map of the same number. best: with the most alike one of all, whose number `match` has, (C,).
    """

    same: float
    best: float
    match: NDArray[np.intp]


@torch.no_grad()
def look(fabric: Fabric, run: RunLog, store: Store, video_id: str, gop_index: int) -> Seen:
    """Feed the centre crop of a GOP to the network of a run, in eval mode. Raises UsageError where that cannot be."""
    if run.classes != list(store.classes):
        raise UsageError(
            f"{run.folder} was trained on other classes than {store.path} has: expected a run of this store"
        )
    network = load_model(run, fabric)
    if not isinstance(network, MFNet3D):
        raise UsageError(f"{run.folder} is a {run.recipe.model.network}: expected MFNet-3D, whose layers these are")
    clip_format = run.recipe.data.clip_format
    draws = _one_draw(store, video_id, gop_index)
    needs_motion = CLIP_FORMATS[clip_format].needs_motion
    batch = next(iter(iter_batches(store, draws, 1, with_motion=needs_motion, num_threads=1)))
    clip = build_assembler(store.settings, run.recipe.data)(batch.to(fabric.device), [clip_format])[clip_format]
    with fabric.autocast():
        _, hints = network.forward_with_hints(clip.contiguous(memory_format=torch.channels_last_3d))
    return Seen(
        picture_of_clip(clip[0].cpu().numpy()), {name: maps[0].float().cpu().numpy() for name, maps in hints.items()}
    )


def _one_draw(store: Store, video_id: str, gop_index: int) -> Draws:
    row = store.videos.row_of(video_id)
    centre = np.full(1, 0.5, np.float32)
    return Draws(np.array([row]), store.videos.first_gop[[row]] + gop_index, centre, centre, np.zeros(1, bool), centre)


def picture_of_clip(clip: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A normalised clip (C, T, H, W) as levels (T, H, W, 3); motion as colours."""
    slots = clip.transpose(1, 0, 2, 3)
    if len(clip) == len(RGB_MEAN):
        return to_levels(slots.transpose(0, 2, 3, 1) / RGB_SCALE + RGB_MEAN)
    motion = slots / MOTION_SCALE
    return motion_colours(motion, full_colour_px(motion))


def likeness(maps: NDArray[np.float32], first: NDArray[np.float32]) -> Likeness | None:
    """Compare maps (C, T, H, W) with those of the first run, channel by channel; None where shapes differ.

    A map without any variation is like none: correlation 0.
    """
    if maps.shape != first.shape:
        return None
    correlation = _standardised(first) @ _standardised(maps).T
    return Likeness(
        same=float(np.diagonal(correlation).mean()),
        best=float(correlation.max(1).mean()),
        match=correlation.argmax(1),
    )


def _standardised(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = maps.reshape(len(maps), -1).astype(np.float64)
    rows -= rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    standardised: NDArray[np.float64] = rows / np.where(lengths > 0, lengths, 1)
    return standardised


def liveliest(maps: NDArray[np.float32], num_channels: int) -> list[int]:
    """Channels of maps (C, T, H, W) whose values spread most, most first."""
    spread = maps.reshape(len(maps), -1).std(1, dtype=np.float64)
    return [int(channel) for channel in np.argsort(-spread, kind="stable")[:num_channels]]


def spread_times(num_times: int) -> NDArray[np.int64]:
    """Up to `NUM_COLUMNS` of so many time steps, evenly spread from the first one on."""
    step = -(-num_times // NUM_COLUMNS)
    return np.arange(0, num_times, step)


def picture_of_map(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One channel (T, H, W) as colours (T, H, W, 3): its lowest values dark, its highest bright."""
    low, high = np.percentile(values, PERCENTILES)
    shares = (values - low) / (high - low if high > low else 1)
    return to_levels(mpl.colormaps[COLOUR_MAP](np.clip(shares, 0, 1))[..., :3] * 255)
