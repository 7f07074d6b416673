"""Reading ahead: the same batches whatever the threads, from any batch on, and no damage passed on."""

from __future__ import annotations

import concurrent.futures.thread
import gc
import os
import shutil
import threading
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from synthetic import random_gop, write_store

from mfcd_core.errors import ChecksumError, StoreError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.unpacker import PlaneReader
from mfcd_train import loader
from mfcd_train.dataset import Draws, training_draws
from mfcd_train.loader import MEMORY_BYTES, PREFETCH, iter_batches

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_train.loader import Batch

NUM_VIDEOS = 22
BATCH_SIZE = 4  # 5 whole batches, and one of 2


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    settings, random = StoreSettings(32, 16, gop_size=3), np.random.default_rng(0)
    videos = {
        f"{'run' if number % 2 else 'swim'}/{number:02}": [random_gop(settings, random) for _ in range(1 + number % 3)]
        for number in range(NUM_VIDEOS)
    }
    return Store(write_store(tmp_path_factory.mktemp("loader"), settings, videos, videos_per_shard=5))


@pytest.fixture(scope="module")
def draws(store: Store) -> Draws:
    return training_draws(store, np.arange(NUM_VIDEOS), 0, 0, 0.5)


def read(store: Store, draws: Draws, *, num_threads: int = 2, with_motion: bool = True, start: int = 0) -> list[Batch]:
    return list(iter_batches(store, draws, BATCH_SIZE, with_motion=with_motion, num_threads=num_threads, start=start))


def is_same(one: Batch, other: Batch) -> bool:
    planes = list(one.planes) == list(other.planes) and all(
        map(torch.equal, one.planes.values(), other.planes.values())
    )
    drawn = all(np.array_equal(getattr(one.draws, f.name), getattr(other.draws, f.name)) for f in fields(Draws))
    return planes and drawn and torch.equal(one.labels, other.labels)


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_batches_hold_what_the_store_holds(store: Store, draws: Draws) -> None:
    batches = read(store, draws)
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 4, 4, 2]
    position = 0
    for batch in batches:
        for i in range(len(batch.labels)):
            video = int(draws.video[position])
            gop = store.read_gop(str(store.videos.ids[video]), int(draws.gop[position] - store.videos.first_gop[video]))
            assert batch.labels[i] == store.videos.labels[video]
            planes = {name: plane[i].numpy() for name, plane in batch.planes.items()}
            assert planes["motion"].dtype == np.uint8
            assert np.array_equal(planes["motion"], gop.motion % 256)
            for name, plane in gop.iframe.items():
                assert np.array_equal(planes[f"iframe/{name}"], plane)
                assert planes[f"residual/{name}"].dtype == np.int8
                assert np.array_equal(planes[f"residual/{name}"] * np.int16(2), gop.residual[name])
            position += 1
    assert position == NUM_VIDEOS


@pytest.mark.parametrize("num_threads", [2, 7])
def test_threads_do_not_change_the_batches(store: Store, draws: Draws, num_threads: int) -> None:
    for one, other in zip(read(store, draws, num_threads=1), read(store, draws, num_threads=num_threads), strict=True):
        assert is_same(one, other)


@pytest.mark.parametrize("start", range(8))
def test_a_later_start_goes_on_exactly(store: Store, draws: Draws, start: int) -> None:
    everything, rest = read(store, draws), read(store, draws, start=start)
    assert len(rest) == max(6 - start, 0)
    assert all(is_same(one, other) for one, other in zip(everything[start:], rest, strict=True))


@pytest.fixture
def num_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all reads from now on."""
    num_bytes: list[int] = []
    preadv = os.preadv

    def counting(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        num_bytes.append(sum(map(len, buffers)))
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    return num_bytes


def test_motion_is_not_read_where_nobody_needs_it(store: Store, draws: Draws, num_bytes: list[int]) -> None:
    batches = read(store, draws, with_motion=False)
    sizes = store.places["sizes"][draws.gop]
    assert sum(num_bytes) == sizes[:, :-1].sum() < sizes.sum()
    assert all("motion" not in batch.planes for batch in batches)
    for without, whole in zip(batches, read(store, draws), strict=True):
        assert all(torch.equal(plane, whole.planes[name]) for name, plane in without.planes.items())


@pytest.mark.parametrize(("with_motion", "num_read"), [(False, 2), (True, 5)])
def test_residuals_are_left_out_where_nobody_needs_them(
    store: Store, draws: Draws, num_bytes: list[int], *, with_motion: bool, num_read: int
) -> None:
    """Without motion not even their bytes are read; with motion, which lies behind them, they are not decompressed."""
    batches = list(iter_batches(store, draws, BATCH_SIZE, with_motion=with_motion, with_residual=False, num_threads=2))
    assert sum(num_bytes) == store.places["sizes"][draws.gop][:, :num_read].sum()
    names = ["iframe/luma", "iframe/chroma"] + ["motion"] * with_motion
    for without, whole in zip(batches, read(store, draws), strict=True):
        assert list(without.planes) == names
        assert all(torch.equal(plane, whole.planes[name]) for name, plane in without.planes.items())


def test_reading_ahead_is_bounded(store: Store, draws: Draws, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = set()
    for name in ("read_into", "fetch"):
        work = getattr(PlaneReader, name)
        monkeypatch.setattr(PlaneReader, name, lambda *given, work=work: (begun.add(given[1]), work(*given))[1])
    batches = iter_batches(store, draws, 1, with_motion=False, num_threads=1)
    for _ in range(3):
        next(batches)
    assert len(begun) <= 3 + PREFETCH
    batches.close()


def damaged_copy(store: Store, folder: Path, row: int, chunk: int) -> Store:
    """The store with one bit of one chunk of GOP `row` flipped."""
    shutil.copytree(store.path, folder)
    place = store.places[row]
    offset = int(place["offset"]) + int(place["sizes"][:chunk].sum()) + int(place["sizes"][chunk]) // 2
    with (folder / store.shards[int(place["shard"])].name).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
    return Store(folder)


def test_damage_is_named_by_shard_video_and_gop(store: Store, draws: Draws, tmp_path: Path) -> None:
    row = int(draws.gop[9])
    video, shard = str(store.videos.ids[draws.video[9]]), store.shard_of(int(draws.video[9]))
    gop_index = row - int(store.videos.first_gop[draws.video[9]])
    damaged = damaged_copy(store, tmp_path / "store", row, chunk=2)
    batches = iter_batches(damaged, draws, BATCH_SIZE, with_motion=False, num_threads=2)
    next(batches), next(batches)  # the third one holds it
    with pytest.raises(ChecksumError, match=f"{shard}: GOP {gop_index} of '{video}': residual/luma is damaged"):
        next(batches)
    assert loader_threads() == []
    with pytest.raises(StopIteration):
        next(batches)


def test_a_bad_gop_is_left_out_by_switch_alone(
    store: Store, draws: Draws, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its batch has one sample less, the others are as they were, and what is missing is said."""
    bad = 9  # the second of the third batch
    damaged = damaged_copy(store, tmp_path / "store", int(draws.gop[bad]), chunk=2)
    batches = list(iter_batches(damaged, draws, BATCH_SIZE, with_motion=True, num_threads=2, on_bad_gop="skip"))
    expected = read(store, draws)
    assert [batch.num_skipped for batch in batches] == [0, 0, 1, 0, 0, 0]
    third, rest = batches.pop(2), expected.pop(2)
    assert all(map(is_same, batches, expected))
    kept = [0, 2, 3]
    assert third.labels.tolist() == rest.labels[kept].tolist()
    assert third.draws.gop.tolist() == rest.draws.gop[kept].tolist()
    assert third.draws.top.tolist() == rest.draws.top[kept].tolist()
    assert all(torch.equal(plane, rest.planes[name][kept]) for name, plane in third.planes.items())
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning: skipped a GOP") == 1
    assert f"of '{store.videos.ids[draws.video[bad]]}': residual/luma is damaged" in said


def test_a_batch_of_which_nothing_is_left_stops_in_any_case(store: Store, draws: Draws, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "store")
    batches = iter_batches(
        Store(tmp_path / "store"), draws, BATCH_SIZE, with_motion=True, num_threads=2, on_bad_gop="skip"
    )
    for path in (tmp_path / "store").glob("*.h5"):
        path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        next(batches)


def test_memory_is_used_again_once_nobody_holds_it(store: Store, draws: Draws) -> None:
    """A loop that keeps one batch needs as many buffers as are ahead, and its own."""
    places = set()
    many = Draws(**{f.name: np.tile(getattr(draws, f.name), 20) for f in fields(Draws)})
    for batch in iter_batches(store, many, BATCH_SIZE, with_motion=True, num_threads=2):
        places.add(batch.planes["motion"].data_ptr())
    assert len(places) <= PREFETCH + 2


def test_a_part_of_a_batch_that_is_kept_keeps_its_values(store: Store, draws: Draws) -> None:
    many = Draws(**{f.name: np.tile(getattr(draws, f.name), 5) for f in fields(Draws)})
    kept, expected = [], []
    for batch in iter_batches(store, many, BATCH_SIZE, with_motion=True, num_threads=2):
        kept.append(batch.planes["motion"][0].numpy()[:1])
        expected.append(kept[-1].copy())
    assert all(map(np.array_equal, kept, expected))


def test_damaged_motion_harms_only_those_who_read_it(store: Store, draws: Draws, tmp_path: Path) -> None:
    damaged = damaged_copy(store, tmp_path / "store", int(draws.gop[0]), chunk=4)
    for one, other in zip(read(store, draws, with_motion=False), read(damaged, draws, with_motion=False), strict=True):
        assert is_same(one, other)
    with pytest.raises(ChecksumError, match="motion is damaged"):
        read(damaged, draws)


@pytest.mark.parametrize("memory_bytes", [1, MEMORY_BYTES])
def test_a_batch_may_be_let_go_of_under_any_lock(
    store: Store, draws: Draws, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    """As garbage is in the midst of a task being submitted: its memory comes back while executors are locked."""
    monkeypatch.setattr(loader, "MEMORY_BYTES", memory_bytes)
    lock = concurrent.futures.thread._global_shutdown_lock
    taken = []
    for batch in iter_batches(store, draws, 2, with_motion=True, num_threads=2):
        taken.append(len(batch.labels))
        with lock:
            del batch
    assert sum(taken) == len(draws)


def test_a_loop_that_is_forgotten_ends_its_threads(store: Store, draws: Draws) -> None:
    batches = iter_batches(store, draws, BATCH_SIZE, with_motion=True, num_threads=2)
    cycle = [next(batches), batches]
    cycle.append(cycle)
    del cycle, batches
    gc.collect()
    assert loader_threads() == []


def test_giving_up_early_leaves_no_thread_behind(store: Store, draws: Draws) -> None:
    batches = iter_batches(store, draws, BATCH_SIZE, with_motion=True, num_threads=3)
    next(batches)
    assert loader_threads()
    batches.close()
    assert loader_threads() == []
    del batches
    for _ in iter_batches(store, draws, BATCH_SIZE, with_motion=True, num_threads=3):
        break
    assert loader_threads() == []


def test_a_batch_moves_as_a_whole(store: Store, draws: Draws) -> None:
    batch = read(store, draws)[0]
    assert is_same(batch, batch.to(torch.device("cpu")))
    moved = batch.to(torch.device("meta"))
    assert {tensor.device.type for tensor in (*moved.planes.values(), moved.labels)} == {"meta"}
