"""Which GOPs are drawn, in which order, with which crop and flip: one sequence from seed and epoch (DESIGN 5)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mfcd_core.store import Store

DEFAULT_TRAIN_ROLE, TEST_ROLES = "train", ("test", "val")
TRAINING, EVALUATION = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class Draws:
    """Clips to be fed, in order, each field (n,).

    video: row of `Store.videos`, int64. gop: row of gops.npy, int64. top, left: place of the crop as a fraction of the
    room there is, 0 to 1, float32. flip: bool. phase: where the first frame that is drawn of a clip lies, as a fraction
    of the way from one to the next, 0 to 1, float32.
    """

    video: NDArray[np.int64]
    gop: NDArray[np.int64]
    top: NDArray[np.float32]
    left: NDArray[np.float32]
    flip: NDArray[np.bool_]
    phase: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Draws:
        return Draws(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def split_rows(store: Store, split: str) -> dict[str, NDArray[np.int64]]:
    """Rows of the labelled videos of each role ("train", "test") in a split by name; empty: the store's first split.

    Raises UsageError where the store has no labels, no such split, or a role without videos.
    """
    if not store.splits:
        raise UsageError(f"{store.path} has no labelled videos: expected a folder a class; encode SOURCE/class/video")
    name = split or next(iter(store.splits))
    if name not in store.splits:
        raise UsageError(f"split {name!r}: expected one of {', '.join(store.splits)}")
    roles = {role: rows[store.videos.labels[rows] >= 0] for role, rows in store.splits[name].items()}
    test = next((roles[role] for role in TEST_ROLES if len(roles.get(role, ()))), None)
    train = roles.get(DEFAULT_TRAIN_ROLE, np.empty(0, np.int64))
    if test is None or not len(train):
        counts = ", ".join(f"{role} {len(rows)}" for role, rows in roles.items())
        raise UsageError(f"split {name!r} of {store.path} has {counts}: expected train and test videos")
    return {"train": train, "test": test}


def training_draws(store: Store, videos: NDArray[np.int64], seed: int, epoch: int, flip: float) -> Draws:
    """One GOP of every video, in random order, with random crop and flip, from (seed, epoch)."""
    random = np.random.default_rng([seed, TRAINING, epoch])
    order = random.permutation(videos)
    num_gops = store.videos.num_gops[order]
    return Draws(
        video=order,
        gop=store.videos.first_gop[order] + np.floor(random.random(len(order)) * num_gops).astype(np.int64),
        top=random.random(len(order), np.float32),
        left=random.random(len(order), np.float32),
        flip=random.random(len(order)) < flip,
        phase=random.random(len(order), np.float32),
    )


def _random_clips(num_gops: int, clips: int, random: np.random.Generator) -> NDArray[np.int64]:
    return random.choice(num_gops, clips, replace=num_gops < clips)


def _spread_clips(num_gops: int, clips: int, _random: np.random.Generator) -> NDArray[np.int64]:
    return np.floor((np.arange(clips) + 0.5) / clips * num_gops).astype(np.int64)


PROTOCOLS: dict[str, Callable[[int, int, np.random.Generator], NDArray[np.int64]]] = {
    "random": _random_clips,
    "spread": _spread_clips,
}
"""How clips are chosen: at random with random crops (the paper), or evenly spread with the centre crop."""


def evaluation_draws(store: Store, videos: NDArray[np.int64], clips: int, seed: int, protocol: str) -> Draws:
    """`clips` clips of every video, video by video (the paper's inference, section 5).

    A video with fewer GOPs than clips has some drawn more than once. What is drawn of a video depends on the seed and
    its row in the store alone.
    """
    gops, tops, lefts = [], [], []
    for video in videos.tolist():
        random = np.random.default_rng([seed, EVALUATION, video])
        gops.append(
            store.videos.first_gop[video] + PROTOCOLS[protocol](int(store.videos.num_gops[video]), clips, random)
        )
        tops.append(random.random(clips, np.float32))
        lefts.append(random.random(clips, np.float32))
    centre = np.full(clips * len(videos), 0.5, np.float32)
    return Draws(
        video=np.repeat(videos, clips),
        gop=np.concatenate(gops),
        top=np.concatenate(tops) if protocol == "random" else centre,
        left=np.concatenate(lefts) if protocol == "random" else centre,
        flip=np.zeros(clips * len(videos), bool),
        phase=centre,
    )
