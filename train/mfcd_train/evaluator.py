"""Scores of clips and the accuracy of videos (the paper's inference, section 5)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import progress
from mfcd_train.assemble import build_assembler
from mfcd_train.checkpoint import weights_checksum
from mfcd_train.dataset import evaluation_draws, split_rows
from mfcd_train.loader import iter_batches
from mfcd_train.metrics import topk_accuracy, video_scores
from mfcd_train.sharing import dealt_rows, share_buffers

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import nn

    from mfcd_core.console import Advance
    from mfcd_core.store import Store
    from mfcd_train.config import Recipe
    from mfcd_train.dataset import Draws

MAX_BATCH_SIZE = 32
"""Clips that go through the network at once: the batch of a step may be the share of many devices."""


@torch.no_grad()
def predict(
    fabric: Fabric, model: nn.Module, store: Store, recipe: Recipe, draws: Draws, advance: Advance | None = None
) -> NDArray[np.float32]:
    """Softmax of each drawn clip, (n, classes) float32, in eval mode; in every process, in the order of the draws.

    model: the plain network: steps of a wrapped one wait for all processes, which here may take different numbers of
    them. Processes share the batches out among themselves, and have the batch statistics of the first one.
    """
    batch_size, peers = min(recipe.data.batch_size, MAX_BATCH_SIZE), fabric.world_size
    rows = dealt_rows(len(draws), batch_size, fabric.global_rank, peers)
    scores = torch.zeros(len(draws), len(store.classes), device=fabric.device)
    clip_format, assemble = recipe.data.clip_format, build_assembler(store, recipe)
    share_buffers(fabric, model.eval())
    batches = iter_batches(
        store,
        draws[rows],
        batch_size,
        with_motion=CLIP_FORMATS[clip_format].needs_motion,
        num_threads=recipe.run.loader_threads,
    )
    for number, batch in enumerate(batches):
        clip = assemble(batch.to(fabric.device), [clip_format])[clip_format]
        with fabric.autocast():
            logits = model(clip.contiguous(memory_format=torch.channels_last_3d))
        scores[rows[number * batch_size :][: len(logits)]] = logits.float().softmax(1)
        if advance:
            advance(min(batch_size * peers, len(draws) - number * batch_size * peers))
    if peers > 1:
        distributed.all_reduce(scores)  # each row is zero in all processes but one
    found: NDArray[np.float32] = scores.cpu().numpy()
    return found


def evaluate(  # noqa: PLR0913 - a protocol has this many numbers
    fabric: Fabric, model: nn.Module, store: Store, recipe: Recipe, *, split: str, clips: int, seed: int, protocol: str
) -> dict[str, Any]:
    """Clip and video accuracy on the test videos of a split: everything a figure needs to be compared."""
    videos = split_rows(store, split)["test"]
    draws = evaluation_draws(store, videos, clips, seed, protocol)
    shown = progress("evaluating", len(draws), "clips") if fabric.is_global_zero else nullcontext()
    with shown as advance:
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
        "store_checksum": store.checksum,
        "weights_checksum": weights_checksum(model.state_dict()),
    }
