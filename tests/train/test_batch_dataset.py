"""Worker processes of a DataLoader give the batches that threads give, however they are started."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from synthetic import random_gop, write_store
from torch.utils.data import DataLoader

from mfcd_core.errors import StoreError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train.batch_dataset import BatchDataset
from mfcd_train.dataset import Draws, training_draws
from mfcd_train.loader import iter_batches

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_train.loader import Batch

NUM_VIDEOS, BATCH_SIZE = 10, 4  # 2 whole batches, and one of 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    settings, random = StoreSettings(16, 8, gop_size=3), np.random.default_rng(0)
    videos = {f"run/{number}": [random_gop(settings, random)] for number in range(NUM_VIDEOS)}
    return Store(write_store(tmp_path / "store", settings, videos, videos_per_shard=5))


@pytest.fixture
def draws(store: Store) -> Draws:
    return training_draws(store, np.arange(NUM_VIDEOS), 0, 0, 0.5)


def is_same(one: Batch, other: Batch) -> bool:
    assert list(one.planes) == list(other.planes)
    tensors = zip((*one.planes.values(), one.labels), (*other.planes.values(), other.labels), strict=True)
    drawn = all(np.array_equal(getattr(one.draws, f.name), getattr(other.draws, f.name)) for f in fields(Draws))
    return drawn and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize("start", [None, "fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_give_the_batches_of_threads(store: Store, draws: Draws, start: str | None) -> None:
    """The parent has read before: what is open in it must not be used by what it forks."""
    expected = list(iter_batches(store, draws, BATCH_SIZE, with_motion=True, num_threads=2))
    dataset = BatchDataset(store, draws, BATCH_SIZE, with_motion=True)
    assert len(dataset) == len(expected) == 3
    assert is_same(dataset[1], expected[1])
    num_workers = 2 if start else 0
    read = list(DataLoader(dataset, batch_size=None, num_workers=num_workers, multiprocessing_context=start))
    assert all(map(is_same, read, expected))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("holds_all", [False, True])
def test_a_worker_uses_memory_again_when_the_batch_in_it_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, holds_all: bool
) -> None:
    """What somebody still holds is never written to again, however many that are."""
    draws = training_draws(store, np.arange(NUM_VIDEOS), 0, 0, 0.5)[np.arange(50) % NUM_VIDEOS]
    expected = list(iter_batches(store, draws, 2, with_motion=True, num_threads=1))
    made, new_shared = multiprocessing.Value("i", 0), torch.UntypedStorage._new_shared

    def count(num_bytes: int) -> torch.UntypedStorage:
        made.value += 1
        return new_shared(num_bytes)

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", count)
    dataset = BatchDataset(store, draws, 2, with_motion=True)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    if holds_all:
        assert all(map(is_same, list(loader), expected))
        assert made.value == len(expected) == 25
    else:
        assert all(is_same(batch, same) for batch, same in zip(loader, expected, strict=True))
        assert made.value <= 12


def test_a_batch_that_is_not_there_is_an_index_error(store: Store, draws: Draws) -> None:
    dataset = BatchDataset(store, draws, BATCH_SIZE, with_motion=False)
    with pytest.raises(IndexError, match="batch 3: expected 0 to 2"):
        dataset[3]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_bad_gop_stops_a_worker_or_is_left_out_by_switch(store: Store, draws: Draws, tmp_path: Path) -> None:
    """All of one shard is missing: half of the GOPs."""
    shutil.copytree(store.path, tmp_path / "copy")
    (tmp_path / "copy" / store.shards[0].name).unlink()
    copy = Store(tmp_path / "copy")
    bad = store.places["shard"][draws.gop] == 0
    dataset = BatchDataset(copy, draws, NUM_VIDEOS, with_motion=True, on_bad_gop="skip")
    (batch,) = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    assert batch.num_skipped == bad.sum() == 5
    assert batch.draws.gop.tolist() == draws.gop[~bad].tolist()
    stopping = BatchDataset(copy, draws, NUM_VIDEOS, with_motion=True)
    with pytest.raises(StoreError, match=r"shard-00000\.h5: GOP 0 of 'run/\d': cannot be read"):
        stopping[0]
