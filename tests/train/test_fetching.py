"""Bytes that are read ahead: those of the store, in memory that nobody else reads, and never a must."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import random_gop, write_store

from mfcd_core.errors import StoreError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.unpacker import PlaneReader
from mfcd_train.fetching import Fetching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOPS = [2, 0, 2, 1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    settings, random = StoreSettings(16, 8, gop_size=3), np.random.default_rng(0)
    return Store(write_store(tmp_path / "store", settings, {"v": [random_gop(settings, random) for _ in range(3)]}))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def bytes_of(store: Store, gop: int) -> bytes:
    place = store.places[gop]
    start = int(place["offset"])
    return (store.path / store.shards.name(0)).read_bytes()[start : start + int(place["sizes"].sum())]


def fetched(fetching: Fetching) -> dict[int, bytes]:
    return {place: bytes(stored) for place, stored in fetching.result().items()}


def test_bytes_are_those_of_the_store(store: Store, threads: ThreadPoolExecutor) -> None:
    reader = PlaneReader(store, with_motion=True)
    fetching = Fetching(reader, np.empty(0, np.uint8), ())
    assert (fetching.is_begun, fetching.result()) == (False, {})
    fetching.begin(GOPS, threads, 2)
    assert fetching.is_begun
    assert fetched(fetching) == {place: bytes_of(store, gop) for place, gop in enumerate(GOPS)}
    planes, expected = ({array.name: array.empty() for array in reader.arrays} for _ in range(2))
    reader.read_into(1, planes, fetching.result()[3])
    reader.read_into(1, expected)
    assert all(np.array_equal(planes[name], plane) for name, plane in expected.items())


def test_memory_waits_for_all_who_still_read_it(store: Store, threads: ThreadPoolExecutor) -> None:
    """Also for those of a batch before one that was unpacked without any bytes ahead."""
    first = Fetching(PlaneReader(store, with_motion=True), np.empty(0, np.uint8), ())
    first.begin(GOPS, threads, 2)
    before, slow, quick = fetched(first), Future[None](), Future[None]()
    quick.set_result(None)
    third = first.followed([slow]).followed([quick])
    third.begin([1, 1, 1, 1], threads, 2)
    with pytest.raises(TimeoutError):
        third._tasks[-1].result(0.05)
    assert fetched(first) == before
    slow.set_result(None)
    assert set(fetched(third).values()) == {bytes_of(store, 1)}
    assert fetched(first) != before  # the very same memory


def test_stopping_leaves_the_rest(store: Store, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, may_go_on, is_under_way = PlaneReader(store, with_motion=True), threading.Event(), threading.Event()
    fetch = reader.fetch
    monkeypatch.setattr(
        reader, "fetch", lambda *given: (is_under_way.set(), may_go_on.wait(), fetch(*given))[2], raising=True
    )
    fetching = Fetching(reader, np.empty(0, np.uint8), ())
    fetching.begin(GOPS, threads, 1)
    is_under_way.wait()
    fetching.stop()
    may_go_on.set()
    assert fetched(fetching) == {0: bytes_of(store, GOPS[0])}


def test_what_cannot_be_read_is_left_to_those_who_need_it(
    store: Store, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = PlaneReader(store, with_motion=True)
    fetch = store.fetch

    def fail(row: int, names: list[str], room: memoryview) -> memoryview:
        if row == 0:
            raise StoreError("gone")
        return fetch(row, names, room)

    monkeypatch.setattr(store, "fetch", fail)
    fetching = Fetching(reader, np.empty(0, np.uint8), ())
    fetching.begin(GOPS, threads, 2)
    assert sorted(fetching.result()) == [0, 2, 3]
