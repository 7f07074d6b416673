"""From GOPs in memory to scores: the batches, clips and means of mfcd-eval, without a store (the paper, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mfcd_core.clip import CLIP_FORMATS
from mfcd_train.assemble import build_assembler
from mfcd_train.dataset import PROTOCOLS, Draws
from mfcd_train.loader import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from mfcd_core.gop import Gop
    from mfcd_core.store.packing import StoredArray
    from mfcd_core.store.settings import StoreSettings
    from mfcd_train.config import DataRecipe, Recipe

PROTOCOL = "spread"


@dataclass(frozen=True)
class Predictor:
    """A network in eval mode, and what it is to be fed: GOPs of `settings`, made into clips as the recipe says."""

    fabric: Fabric
    model: nn.Module
    recipe: Recipe
    settings: StoreSettings

    @torch.no_grad()
    def score(self, gops: Iterable[Gop], advance: Callable[[int], object]) -> NDArray[np.float32]:
        """Softmax of the centre clip of each GOP, (n, classes) float32; `advance` is told how many were done."""
        scores = []
        for clips in iter_clips(gops, self.settings, self.recipe.data, self.fabric.device):
            with self.fabric.autocast():
                logits = self.model(clips)
            scores.append(logits.float().softmax(1).cpu().numpy())
            advance(len(clips))
        return np.concatenate(scores)


def spread_gops(num_gops: int, clips: int) -> NDArray[np.int64]:
    """GOPs of the deterministic protocol of mfcd-eval: (clips,), some more than once where there are fewer GOPs."""
    return PROTOCOLS[PROTOCOL](num_gops, clips, np.random.default_rng(0))  # which draws nothing


def iter_clips(
    gops: Iterable[Gop], settings: StoreSettings, data: DataRecipe, device: torch.device
) -> Iterator[Tensor]:
    """Yield centre clips in the recipe's format and batches, (N, C, T, crop, crop) float32, normalised, on `device`."""
    assemble = build_assembler(settings, data)
    gops = iter(gops)
    while batch := list(islice(gops, data.batch_size)):
        planes = batch_of(batch, settings, with_motion=CLIP_FORMATS[data.clip_format].needs_motion)
        clips = assemble(planes.to(device), [data.clip_format])[data.clip_format]
        yield clips.contiguous(memory_format=torch.channels_last_3d)


def batch_of(gops: Sequence[Gop], settings: StoreSettings, *, with_motion: bool) -> Batch:
    """What the loader would have read of these GOPs, with centre crops, unflipped; labels are -1."""
    arrays = [array for array in settings.stored_arrays() if with_motion or array.name != "motion"]
    planes = {
        array.name: torch.from_numpy(np.stack([_stored(gop, array, settings.residual_step) for gop in gops]))
        for array in arrays
    }
    centre, nothing = np.full(len(gops), 0.5, np.float32), np.zeros(len(gops), np.int64)
    flip = np.zeros(len(gops), bool)
    draws = Draws(video=nothing, gop=nothing, top=centre, left=centre, flip=flip, phase=centre)
    return Batch(planes, torch.full((len(gops),), -1), draws)


def _stored(gop: Gop, array: StoredArray, residual_step: int) -> NDArray[Any]:
    """Plain values of one data set as stored: residuals in steps, motion modulo where it is."""
    kind, _, plane = array.name.partition("/")
    if kind == "motion":
        return gop.motion.astype(array.read_dtype)
    values = gop.iframe[plane] if kind == "iframe" else gop.residual[plane] // residual_step
    return values.astype(array.read_dtype)
