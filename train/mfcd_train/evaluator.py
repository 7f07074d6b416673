"""Scores of clips and the accuracy of videos (the paper's inference, section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import progress
from mfcd_train.assemble import build_assembler
from mfcd_train.dataset import evaluation_draws, split_rows
from mfcd_train.loader import iter_batches
from mfcd_train.metrics import topk_accuracy, video_scores

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import nn

    from mfcd_core.console import Advance
    from mfcd_core.store import Store
    from mfcd_train.config import Recipe
    from mfcd_train.dataset import Draws


@torch.no_grad()
def predict(
    fabric: Fabric, model: nn.Module, store: Store, recipe: Recipe, draws: Draws, advance: Advance | None = None
) -> NDArray[np.float32]:
    """Softmax of each drawn clip, (n, classes) float32, in eval mode."""
    model.eval()
    clip_format, assemble = recipe.data.clip_format, build_assembler(store, recipe)
    scores = []
    for batch in iter_batches(
        store,
        draws,
        recipe.data.batch_size,
        with_motion=CLIP_FORMATS[clip_format].needs_motion,
        num_threads=recipe.run.loader_threads,
    ):
        clip = assemble(batch.to(fabric.device), [clip_format])[clip_format]
        with fabric.autocast():
            logits = model(clip.contiguous(memory_format=torch.channels_last_3d))
        scores.append(logits.float().softmax(1).cpu().numpy())
        if advance:
            advance(len(batch.labels))
    return np.concatenate(scores)


def evaluate(  # noqa: PLR0913 - a protocol has this many numbers
    fabric: Fabric, model: nn.Module, store: Store, recipe: Recipe, *, split: str, clips: int, seed: int, protocol: str
) -> dict[str, Any]:
    """Clip and video accuracy on the test videos of a split: everything a figure needs to be compared."""
    videos = split_rows(store, split)["test"]
    draws = evaluation_draws(store, videos, clips, seed, protocol)
    with progress("evaluating", len(draws), "clips") as advance:
        scores = predict(fabric, model, store, recipe, draws, advance)
    labels = store.videos.labels[draws.video]
    of_videos, video_labels = video_scores(scores, clips), labels[::clips]
    top = {
        f"{unit}/top{k}": topk_accuracy(unit_scores, unit_labels, k)
        for unit, unit_scores, unit_labels in (("clip", scores, labels), ("video", of_videos, video_labels))
        for k in (1, 5)
    }
    predicted = of_videos.argmax(1)
    per_class = {
        name: float((predicted == video_labels)[video_labels == i].mean())
        for i, name in enumerate(store.classes)
        if (video_labels == i).any()
    }
    return {
        **top,
        "chance": 1 / len(store.classes),
        "per_class": per_class,
        "num_videos": len(videos),
        "num_videos_with_repeated_gops": int((store.videos.num_gops[videos] < clips).sum()),
        "clips": clips,
        "protocol": protocol,
        "seed": seed,
        "split": split or next(iter(store.splits)),
        "frames": store.settings.gop_size,
        "clip_format": recipe.data.clip_format,
        "store_settings": store.settings.to_dict(),
    }
