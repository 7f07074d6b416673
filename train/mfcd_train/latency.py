"""Measured time of one clip and one video on this machine, and how reading, assembling and the network share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mfcd_core.bench import Run, interleave, median_run, run_here
from mfcd_core.clip import CLIP_FORMATS
from mfcd_train.assemble import build_assembler
from mfcd_train.dataset import Draws, evaluation_draws
from mfcd_train.loader import Batch, iter_batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from mfcd_core.store import Store
    from mfcd_core.store.settings import StoreSettings
    from mfcd_train.config import Recipe

READ, ASSEMBLE, NETWORK = "read", "assemble", "network"
STAGES = (READ, ASSEMBLE, NETWORK)
"""Read, check and decompress from a store; planes to a normalised clip on the device; clip to scores."""
CLIP, VIDEO = "clip", "video"
Stages = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Subject:
    """What is timed: a network on a device, fed from a store, from random planes of its settings, or random clips.

    model: in eval mode, set up on `device`. input_shape: one clip, (C, T, H, W), for random clips. settings: planes
    of a GOP; None: no planes fit, such as for a clip that is no square. store: None: nothing is read.
    """

    recipe: Recipe
    model: nn.Module
    device: torch.device
    input_shape: tuple[int, int, int, int]
    settings: StoreSettings | None = None
    store: Store | None = None


def measure_latency(subject: Subject, clips: int, repeats: int) -> dict[str, dict[str, Run]]:
    """What each stage takes, by `CLIP` alone in its batch, and by `VIDEO` of `clips` clips in one batch.

    Medians over `repeats` rounds in which all stages take turns, after one that is not counted.
    """
    stages = {CLIP: _build_stages(subject, 1), VIDEO: _build_stages(subject, clips)}
    contenders = {
        f"{unit} {stage}": partial(run_here, work) for unit, works in stages.items() for stage, work in works.items()
    }
    runs = interleave(contenders, repeats)
    return {unit: {stage: median_run(runs[f"{unit} {stage}"]) for stage in works} for unit, works in stages.items()}


def add_up(runs: Mapping[str, Run]) -> Run:
    """All stages together."""
    return Run(sum(run.wall_seconds for run in runs.values()), sum(run.cpu_seconds for run in runs.values()))


def shares(runs: Mapping[str, Run]) -> dict[str, float]:
    """Each stage's part of the wall clock, 0 to 1."""
    whole = add_up(runs).wall_seconds
    return {stage: run.wall_seconds / whole for stage, run in runs.items()}


def _build_stages(subject: Subject, num_clips: int) -> Stages:
    """Works by stage, each on what the one before gave; building them runs each once."""
    stages: Stages = {}
    if subject.settings is None:
        clip = torch.randn(num_clips, *subject.input_shape, device=subject.device)
    else:
        if subject.store is None:
            batch = random_batch(subject.settings, num_clips)
        else:
            stages[READ] = partial(_read, subject.store, subject.recipe, num_clips)
            batch = _read(subject.store, subject.recipe, num_clips)
        stages[ASSEMBLE] = partial(_assemble, subject, subject.settings, batch)
        clip = _assemble(subject, subject.settings, batch)
    stages[NETWORK] = partial(_score, subject.model, clip)
    _score(subject.model, clip)
    return stages


def _read(store: Store, recipe: Recipe, num_clips: int) -> Batch:
    """Clips of the store's first video, as its evaluation draws them."""
    draws = evaluation_draws(store, np.zeros(1, np.int64), num_clips, seed=0, protocol="random")
    clip_format = CLIP_FORMATS[recipe.data.clip_format]
    (batch,) = iter_batches(
        store,
        draws,
        num_clips,
        with_motion=clip_format.needs_motion,
        with_residual=clip_format.needs_residual,
        num_threads=recipe.run.loader_threads,
    )
    return batch


def random_batch(settings: StoreSettings, num_clips: int) -> Batch:
    """Stored planes of noise whose motion is zero: any bytes are digits, but not any motion stays in the picture."""
    random = np.random.default_rng(0)
    planes = {array.name: array.empty(num_clips) for array in settings.stored_arrays()}
    for name, plane in planes.items():
        plane[...] = 0 if name == "motion" else random.integers(0, 256, plane.shape, np.uint8)
    rows, half = np.zeros(num_clips, np.int64), np.full(num_clips, 0.5, np.float32)
    tensors = {name: torch.from_numpy(plane) for name, plane in planes.items()}
    return Batch(tensors, torch.from_numpy(rows), Draws(rows, rows, half, half, np.zeros(num_clips, bool), half))


@torch.no_grad()
def _assemble(subject: Subject, settings: StoreSettings, batch: Batch) -> Tensor:
    data = subject.recipe.data
    clip = build_assembler(settings, data)(batch.to(subject.device), [data.clip_format])[data.clip_format]
    if subject.device.type == "cuda":
        torch.cuda.synchronize(subject.device)
    return clip


@torch.no_grad()
def _score(model: nn.Module, clip: Tensor) -> Any:  # noqa: ANN401 - an array, which is on the host: the device is done
    return model(clip.contiguous(memory_format=torch.channels_last_3d)).float().softmax(1).cpu().numpy()
