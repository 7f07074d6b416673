"""Worker processes of a DataLoader give the batches that threads give, however they are started."""

from __future__ import annotations

import copy
import multiprocessing
import os
import shutil
import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from synthetic import random_gop, write_store
from torch.utils.data import DataLoader, Dataset

from mfcd_core.errors import StoreError, UsageError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train import lending
from mfcd_train.batch_dataset import BatchDataset
from mfcd_train.dataset import Draws, training_draws
from mfcd_train.loader import iter_batches

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.sharedctypes import Synchronized
    from pathlib import Path

    from mfcd_train.loader import Batch

    Value = Synchronized[int]

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
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")
def test_workers_give_the_batches_of_threads(store: Store, draws: Draws, start: str | None) -> None:
    """The parent has read before: what is open in it must not be used by what it forks."""
    expected = list(iter_batches(store, draws, BATCH_SIZE, with_motion=True, num_threads=2))
    dataset = BatchDataset(store, draws, BATCH_SIZE, with_motion=True)
    assert len(dataset) == len(expected) == 3
    assert is_same(dataset[1], expected[1])
    num_workers = 2 if start else 0
    read = list(DataLoader(dataset, batch_size=None, num_workers=num_workers, multiprocessing_context=start))
    assert all(map(is_same, read, expected))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Value:
    """How often forked workers make memory for a batch."""
    count, shared = multiprocessing.Value("i", 0), lending._shared

    def counting(num_bytes: int) -> torch.Tensor:
        count.value += num_bytes > 1
        return shared(num_bytes)

    monkeypatch.setattr(lending, "_shared", counting)
    return count


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("step_seconds", [0.0, 0.1])
def test_a_worker_uses_memory_again_when_the_batch_in_it_is_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch, made: Value, step_seconds: float
) -> None:
    """Also where two sets are all there is, and the loader's process is slower than its worker."""
    monkeypatch.setattr("mfcd_train.loader.MEMORY_BYTES", 0)
    draws = training_draws(store, np.arange(NUM_VIDEOS), 0, 0, 0.5)[np.arange(24) % NUM_VIDEOS]
    expected = iter_batches(store, draws, 2, with_motion=True, num_threads=1)
    dataset = BatchDataset(store, draws, 2, with_motion=True)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    for batch, same in zip(loader, expected, strict=True):
        time.sleep(step_seconds)
        assert is_same(batch, same)
    assert made.value < 6


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_somebody_holds_is_never_written_to(store: Store, monkeypatch: pytest.MonkeyPatch, made: Value) -> None:
    """However many batches that are; the worker waits in vain once."""
    monkeypatch.setattr("mfcd_train.lending.PATIENCE_SECONDS", 0.2)
    draws = training_draws(store, np.arange(NUM_VIDEOS), 0, 0, 0.5)[np.arange(50) % NUM_VIDEOS]
    dataset = BatchDataset(store, draws, 2, with_motion=True)
    expected = iter_batches(store, draws, 2, with_motion=True, num_threads=1)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    planes = [batch.planes["motion"][:1, -1] for batch in loader]  # views alone
    assert all(torch.equal(plane, same.planes["motion"][:1, -1]) for plane, same in zip(planes, expected, strict=True))
    assert made.value == len(dataset) == 25


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_batches_can_be_pinned_and_read_without_residuals(
    store: Store, draws: Draws, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self.clone())
    dataset = BatchDataset(store, draws, BATCH_SIZE, with_motion=True, with_residual=False)
    (batch, *_) = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    assert not [name for name in batch.planes if name.startswith("residual")]
    assert is_same(batch.pin_memory(), batch)
    assert len(pinned) == len(batch.planes) + 1


def changed(batch: Batch) -> Batch:
    return replace(batch, planes={"motion": batch.planes["motion"] + 1})


def edited(batch: Batch) -> Batch:
    planes: Any = batch.planes
    planes["motion"] = planes["motion"] // 2
    del planes["iframe/chroma"]
    planes["iframe/luma"].unsqueeze_(1)
    return batch


def noted(batch: Batch) -> Batch:
    return replace(batch, labels=batch.labels + 7, num_skipped=3)


def wrapped(batch: Batch) -> dict[str, object]:
    return {"batch": batch, "luma": batch.planes["iframe/luma"]}


def copied(batch: Batch) -> list[Batch]:
    return [copy.copy(batch), copy.deepcopy(batch), batch, batch]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize("collate", [changed, edited, noted, wrapped, copied])
def test_what_a_worker_makes_of_a_batch_is_what_arrives(
    store: Store, made: Value, collate: Callable[[Batch], Any], *, holds: bool
) -> None:
    draws = training_draws(store, np.arange(NUM_VIDEOS), 0, 0, 0.5)[np.arange(40) % NUM_VIDEOS]
    expected = [collate(batch) for batch in iter_batches(store, draws, 2, with_motion=True, num_threads=1)]
    dataset = BatchDataset(store, draws, 2, with_motion=True)
    options = {"num_workers": 1, "multiprocessing_context": "fork", "collate_fn": collate}
    loader = DataLoader(dataset, batch_size=None, **options)
    taken = list(loader) if holds else loader
    for got, same in zip(taken, expected, strict=True):
        if collate in (changed, edited, noted):
            assert got.num_skipped == same.num_skipped
            assert is_same(got, same)
        elif collate is wrapped:
            assert is_same(got["batch"], same["batch"])
            assert torch.equal(got["luma"], same["luma"])
        else:
            assert all(map(is_same, got, same))
    assert collate is copied or holds or made.value < 8


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_keeps_the_batches_that_its_parent_had(store: Store) -> None:
    """The parent lets go of them, and reads on."""
    draws = training_draws(store, np.arange(NUM_VIDEOS), 0, 0, 0.5)[np.arange(40) % NUM_VIDEOS]
    expected = next(iter_batches(store, draws, 2, with_motion=True, num_threads=1)).planes["motion"]
    loader = DataLoader(
        BatchDataset(store, draws, 2, with_motion=True), batch_size=None, num_workers=1, multiprocessing_context="fork"
    )
    batches, (reading, writing) = iter(loader), os.pipe()
    held = [next(batches)]
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        os._exit(0 if torch.equal(held[0].planes["motion"], expected) else 1)
    held.clear()
    for _ in batches:
        pass
    os.write(writing, b"x")
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_may_keep_batches_and_send_them_again(store: Store, draws: Draws) -> None:
    class Kept(Dataset[object]):
        """First a plane of each batch, then the batches, again and again."""

        def __init__(self) -> None:
            self.batches, self.of = {}, BatchDataset(store, draws, 2, with_motion=True)

        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Batch | torch.Tensor:
            batch = self.batches.setdefault(index % 5, self.of[index % 5] if index < 5 else None)
            return batch.planes["motion"] if index < 5 else batch

    expected = list(iter_batches(store, draws, 2, with_motion=True, num_threads=1))
    loader = DataLoader(Kept(), batch_size=None, num_workers=1, multiprocessing_context="fork")
    for index, got in enumerate(loader):
        same = expected[index % 5]
        assert torch.equal(got, same.planes["motion"]) if index < 5 else is_same(got, same)


@pytest.mark.parametrize(("wrong", "said"), [({"batch_size": 0}, "at least 1"), ({"on_bad_gop": "Skip"}, "'skip'")])
def test_what_would_read_other_batches_is_refused(
    store: Store, draws: Draws, wrong: dict[str, object], said: str
) -> None:
    options: dict[str, Any] = {"batch_size": 2, "with_motion": True} | wrong
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} .* expected .*{said}"):
        BatchDataset(store, draws, **options)
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} .* expected .*{said}"):
        next(iter(iter_batches(store, draws, num_threads=1, **options)))


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
