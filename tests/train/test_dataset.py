"""What is drawn: every video once an epoch, GOPs of the video alone, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import random_gop, write_store

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train.dataset import PROTOCOLS, Draws, evaluation_draws, split_rows, training_draws

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NUM_GOPS = {"run/a": 1, "run/b": 4, "run/c": 15, "swim/d": 2, "swim/e": 40, "swim/f": 3, "loose": 2}
SPLITS = {
    "first": {"train": ["run/a", "run/b", "swim/e", "swim/f"], "test": ["run/c", "swim/d"]},
    "kinetics": {"train": ["run/a", "swim/d"], "val": ["run/b", "swim/f"], "test": []},
    "loose": {"train": ["run/a", "loose"], "test": ["swim/d", "loose"]},
    "halved": {"train": ["run/a", "swim/d"]},
    "unlabelled": {"train": ["loose"], "test": ["swim/d"]},
}


def write(folder: Path, num_gops: Mapping[str, int], splits: Mapping[str, Mapping[str, Sequence[str]]]) -> Store:
    settings = StoreSettings(16, 16, gop_size=2)
    gop = random_gop(settings, np.random.default_rng(0))
    return Store(write_store(folder, settings, {i: [gop] * num for i, num in num_gops.items()}, splits))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write(tmp_path_factory.mktemp("draws"), NUM_GOPS, SPLITS)


@pytest.fixture(scope="module")
def everything(store: Store) -> NDArray[np.int64]:
    return np.arange(len(store.videos))


def ids(store: Store, rows: NDArray[np.int64]) -> list[str]:
    return [str(store.videos.ids[row]) for row in rows]


def is_same(one: Draws, other: Draws) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Draws))


def assert_within_videos(store: Store, draws: Draws) -> None:
    first = store.videos.first_gop[draws.video]
    assert ((draws.gop >= first) & (draws.gop < first + store.videos.num_gops[draws.video])).all()
    for place in (draws.top, draws.left):
        assert place.dtype == np.float32
        assert ((place >= 0) & (place <= 1)).all()


# Splits


@pytest.mark.parametrize("name", ["", "first"])
def test_a_split_gives_rows_of_train_and_test(store: Store, name: str) -> None:
    rows = split_rows(store, name)
    assert {role: ids(store, found) for role, found in rows.items()} == SPLITS["first"]


def test_without_test_videos_the_validation_videos_are_tested(store: Store) -> None:
    rows = split_rows(store, "kinetics")
    assert ids(store, rows["test"]) == ["run/b", "swim/f"]


def test_videos_without_a_label_are_left_out(store: Store) -> None:
    rows = split_rows(store, "loose")
    assert (ids(store, rows["train"]), ids(store, rows["test"])) == (["run/a"], ["swim/d"])


def test_an_unknown_split_is_told_apart_from_those_there_are(store: Store) -> None:
    with pytest.raises(UsageError, match=r"split 'frist': expected one of first, kinetics, loose, halved, unlabelled"):
        split_rows(store, "frist")


@pytest.mark.parametrize(("name", "counts"), [("halved", "train 2"), ("unlabelled", "train 0, test 1")])
def test_a_split_without_both_roles_is_refused(store: Store, name: str, counts: str) -> None:
    with pytest.raises(UsageError, match=f"split '{name}' of .* has {counts}: expected train and test videos"):
        split_rows(store, name)


def test_a_store_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no labelled videos: expected a folder a class"):
        split_rows(write(tmp_path, {"a": 1, "b": 1}, {}), "")


# Training


def test_an_epoch_draws_one_gop_of_every_video(store: Store, everything: NDArray[np.int64]) -> None:
    for epoch in range(20):
        draws = training_draws(store, everything, 0, epoch, 0.5)
        assert sorted(draws.video) == everything.tolist()
        assert_within_videos(store, draws)


def test_epochs_and_seeds_differ_and_repeat(store: Store, everything: NDArray[np.int64]) -> None:
    drawn = [training_draws(store, everything, seed, epoch, 0.5) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    again = training_draws(store, everything, 0, 0, 0.5)
    assert is_same(drawn[0], again)
    for other in drawn[1:]:
        assert not any(np.array_equal(getattr(again, f.name), getattr(other, f.name)) for f in fields(Draws))


def test_every_gop_of_a_video_comes_in_time_and_no_other(store: Store) -> None:
    long = np.array([store.videos.row_of("swim/e")])
    seen = Counter(int(training_draws(store, long, 0, epoch, 0.5).gop[0]) for epoch in range(1000))
    first = int(store.videos.first_gop[long[0]])
    assert set(seen) == set(range(first, first + 40))
    assert max(seen.values()) < 25 * 2.2


@pytest.mark.parametrize(("flip", "expected"), [(0.0, 0), (1.0, 1), (0.5, 0.5)])
def test_flips_come_as_often_as_asked(
    store: Store, everything: NDArray[np.int64], flip: float, expected: float
) -> None:
    flips = [training_draws(store, everything, 0, epoch, flip).flip for epoch in range(300)]
    assert np.mean(flips) == pytest.approx(expected, abs=0.05)


def test_a_slice_of_draws_is_draws(store: Store, everything: NDArray[np.int64]) -> None:
    draws = training_draws(store, everything, 0, 0, 0.5)
    assert len(draws[2:4]) == 2
    assert is_same(draws[2:4], Draws(*(getattr(draws, f.name)[2:4] for f in fields(Draws))))


# Evaluation


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_video_has_its_clips_one_after_the_other(
    store: Store, everything: NDArray[np.int64], protocol: str
) -> None:
    draws = evaluation_draws(store, everything, 15, 0, protocol)
    assert np.array_equal(draws.video, np.repeat(everything, 15))
    assert not draws.flip.any()
    assert_within_videos(store, draws)


def test_gops_are_drawn_once_where_there_are_enough(store: Store, everything: NDArray[np.int64]) -> None:
    draws = evaluation_draws(store, everything, 15, 0, "random")
    distinct = {video: len(set(draws.gop[draws.video == video])) for video in everything.tolist()}
    for video, num_gops in enumerate(store.videos.num_gops.tolist()):
        assert distinct[video] == 15 if num_gops >= 15 else distinct[video] <= num_gops


def test_random_draws_of_a_video_depend_on_the_seed_and_the_video_alone(
    store: Store, everything: NDArray[np.int64]
) -> None:
    draws = evaluation_draws(store, everything, 15, 3, "random")
    assert is_same(draws, evaluation_draws(store, everything, 15, 3, "random"))
    assert not np.array_equal(draws.gop, evaluation_draws(store, everything, 15, 4, "random").gop)
    alone = evaluation_draws(store, everything[2:3], 15, 3, "random")
    assert is_same(alone, draws[30:45])
    assert len(np.unique(draws.top)) == len(draws)


def test_spread_gops_lie_evenly_with_centred_crops(store: Store) -> None:
    rows = np.array([store.videos.row_of(i) for i in ("swim/e", "run/b", "run/a")])
    draws = evaluation_draws(store, rows, 4, 0, "spread")
    assert (draws.gop - store.videos.first_gop[draws.video]).tolist() == [5, 15, 25, 35, 0, 1, 2, 3, 0, 0, 0, 0]
    assert set(draws.top) == set(draws.left) == {0.5}
    assert is_same(draws, evaluation_draws(store, rows, 4, 99, "spread"))


@given(num_gops=st.integers(1, 500), clips=st.integers(1, 40))
def test_spread_gops_are_symmetric_and_repeat_only_when_they_must(num_gops: int, clips: int) -> None:
    gops = PROTOCOLS["spread"](num_gops, clips, np.random.default_rng(0))
    assert len(gops) == clips
    assert 0 <= gops[0] <= gops[-1] < num_gops
    steps = np.diff(gops)
    assert set(steps.tolist()) <= {num_gops // clips, -(-num_gops // clips)}
    middles = (np.arange(clips) + 0.5) / clips * num_gops  # each GOP covers [gop, gop + 1)
    assert ((gops <= middles) & (middles <= gops + 1)).all()


@given(num_gops=st.integers(1, 60), clips=st.integers(1, 40), seed=st.integers(0, 10))
def test_random_gops_repeat_only_when_they_must(num_gops: int, clips: int, seed: int) -> None:
    gops = PROTOCOLS["random"](num_gops, clips, np.random.default_rng(seed))
    assert len(gops) == clips
    assert set(gops.tolist()) <= set(range(num_gops))
    if num_gops >= clips:
        assert len(set(gops.tolist())) == clips
