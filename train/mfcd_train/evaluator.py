"""Scores of clips and the accuracy of videos (the paper's inference, section 5)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import progress
from mfcd_train.assemble import build_assembler
from mfcd_train.checkpoint import weights_checksum
from mfcd_train.dataset import evaluation_draws, split_rows
from mfcd_train.intervals import NUM_RESAMPLED, bootstrap
from mfcd_train.loader import iter_batches
from mfcd_train.metrics import confusion_matrix, topk_right, video_scores
from mfcd_train.sharing import dealt_rows, share_buffers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import nn

    from mfcd_core.console import Advance
    from mfcd_core.store import Store
    from mfcd_train.config import Recipe
    from mfcd_train.dataset import Draws

MAX_BATCH_SIZE = 32
"""Clips that go through the network at once: the batch of a step may be the share of many devices."""

INTERVAL_METHOD = f"95 %, bootstrap over videos, {NUM_RESAMPLED} times, seed 0"


@dataclass(frozen=True)
class Evaluation:
    """A network on the test videos of a split.

    result: all figures, and how they came about, as plain values. scores: softmax of each clip, (n, classes) float32.
    draws: the n clips, those of one video side by side. confusion: videos by class and by what they were taken for,
    (classes, classes) int64.
    """

    result: Mapping[str, Any]
    scores: NDArray[np.float32]
    draws: Draws
    confusion: NDArray[np.int64]


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
    clip_format, assemble = recipe.data.clip_format, build_assembler(store.settings, recipe.data)
    share_buffers(fabric, model.eval())
    batches = iter_batches(
        store,
        draws[rows],
        batch_size,
        with_motion=CLIP_FORMATS[clip_format].needs_motion,
        with_residual=CLIP_FORMATS[clip_format].needs_residual,
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
) -> Evaluation:
    """Clip and video accuracy on the test videos of a split: everything a figure needs to be compared."""
    draws = evaluation_draws(store, split_rows(store, split)["test"], clips, seed, protocol)
    scores = score_clips(fabric, model, store, recipe, draws)
    how = {
        "clips": clips,
        "protocol": protocol,
        "seed": seed,
        "split": split or next(iter(store.splits)),
        "clip_format": recipe.data.clip_format,
        "frames": num_frames_fed(recipe, store),
        "weights_checksum": weights_checksum(model.state_dict()),
    }
    return judge_scores(scores, store, draws, how)


def score_clips(fabric: Fabric, model: nn.Module, store: Store, recipe: Recipe, draws: Draws) -> NDArray[np.float32]:
    """What `predict` gives, with its progress shown."""
    shown = progress("evaluating", len(draws), "clips") if fabric.is_global_zero else nullcontext()
    with shown as advance:
        return predict(fabric, model, store, recipe, draws, advance)


def num_frames_fed(recipe: Recipe, store: Store) -> int:
    """Frames of a clip that the network sees."""
    return recipe.data.num_frames or CLIP_FORMATS[recipe.data.clip_format].num_slots(store.settings.gop_size)


def judge_scores(scores: NDArray[np.float32], store: Store, draws: Draws, how: Mapping[str, Any]) -> Evaluation:
    """The evaluation that scores (n, classes) of drawn clips make; `how` says how many are of a video, `clips`."""
    clips = how["clips"]
    videos = draws.video[::clips]
    labels = store.videos.labels[videos]
    result = {
        **describe_scores(scores, labels, store.classes),
        "num_videos": len(videos),
        "num_videos_with_repeated_gops": int((store.videos.num_gops[videos] < clips).sum()),
        **how,
        "store_settings": store.settings.to_dict(),
        "store_checksum": store.checksum,
    }
    return Evaluation(result, scores, draws, confusion_matrix(video_scores(scores, clips), labels))


def describe_scores(scores: NDArray[np.float32], labels: NDArray[np.int32], classes: Sequence[str]) -> dict[str, Any]:
    """Accuracies with their intervals, of scores (videos * clips, classes) and the labels (videos,) of videos."""
    clips = len(scores) // len(labels)
    units = {"clip": (scores, labels.repeat(clips)), "video": (video_scores(scores, clips), labels)}
    right = {f"{unit}/top{k}": topk_right(*of_unit, k) for unit, of_unit in units.items() for k in (1, 5)}
    of_videos = np.stack([found.reshape(len(labels), -1).mean(1) for found in right.values()], 1)
    return {
        **{key: float(found.mean()) for key, found in right.items()},
        "intervals": dict(zip(right, bootstrap(of_videos).tolist(), strict=True)),
        "interval_method": INTERVAL_METHOD,
        "chance": 1 / len(classes),
        "per_class": {
            name: float(right["video/top1"][labels == label].mean())
            for label, name in enumerate(classes)
            if (labels == label).any()
        },
    }
