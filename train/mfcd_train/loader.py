"""Batches of planes, read and decompressed ahead of the network by threads (DESIGN 5)."""

from __future__ import annotations

import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mfcd_core.console import warn
from mfcd_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_core.store import Store
    from mfcd_core.store.packing import StoredArray
    from mfcd_train.dataset import Draws

PREFETCH = 2  # batches in the making or ready, beside the one in use
STOP, SKIP = "stop", "skip"
ON_BAD_GOP = (STOP, SKIP)
"""What to do about a GOP that cannot be read: end with its error, or leave it out, said aloud and counted."""


@dataclass(frozen=True)
class Batch:
    """Clips as stored, ready for the device.

    planes: by the names of `StoreSettings.stored_arrays`, as `StoredArray.empty` has them for N GOPs: digits that are
    still to be unpacked, and motion in plain values, of `read_dtype`. labels: (N,) int64. draws: what was drawn.
    num_skipped: draws that are not among them because their GOPs could not be read.
    """

    planes: Mapping[str, Tensor]
    labels: Tensor
    draws: Draws
    num_skipped: int = 0

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        planes = {name: plane.to(device, non_blocking=True) for name, plane in self.planes.items()}
        return replace(self, planes=planes, labels=self.labels.to(device, non_blocking=True))


def iter_batches(
    store: Store,
    draws: Draws,
    batch_size: int,
    *,
    with_motion: bool,
    num_threads: int,
    start: int = 0,
    on_bad_gop: str = STOP,
) -> Iterator[Batch]:
    """Read `draws` in batches from batch number `start` on; the last one may be smaller.

    A GOP that cannot be read raises StoreError, or ChecksumError for damage, with shard, video and GOP; with
    `on_bad_gop` "skip" it is left out of its batch, with a warning, unless nothing of the batch is left.
    """
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
    reading = _Reading(store, batch_size, threads, with_motion=with_motion)
    firsts = iter(range(start * batch_size, len(draws), batch_size))
    ahead: deque[tuple[Batch, list[Future[None]]]] = deque()
    try:
        while True:
            for first in islice(firsts, PREFETCH - len(ahead)):
                ahead.append(reading.begin(draws[first : first + batch_size]))
            if not ahead:
                return
            yield _finish(*ahead.popleft(), on_bad_gop)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


class _Reading:
    """Begins batches, in memory that is used again as soon as nobody holds a batch any more."""

    def __init__(self, store: Store, batch_size: int, threads: ThreadPoolExecutor, *, with_motion: bool) -> None:
        self._store, self._batch_size, self._threads = store, batch_size, threads
        self._arrays = [array for array in store.settings.stored_arrays() if with_motion or array.name != "motion"]
        self._free: dict[str, list[NDArray[Any]]] = {array.name: [] for array in self._arrays}

    def begin(self, draws: Draws) -> tuple[Batch, list[Future[None]]]:
        planes = {array.name: self._memory(array, len(draws)) for array in self._arrays}
        futures = [
            self._threads.submit(self._store.read_into, gop, {name: plane[i] for name, plane in planes.items()})
            for i, gop in enumerate(draws.gop.tolist())
        ]
        labels = torch.from_numpy(self._store.videos.labels[draws.video].astype(np.int64))
        return Batch({name: torch.from_numpy(plane) for name, plane in planes.items()}, labels, draws), futures

    def _memory(self, array: StoredArray, num_gops: int) -> NDArray[Any]:
        """A view that gives its memory back when the last tensor of it is gone."""
        free = self._free[array.name]
        memory = free.pop() if free else array.empty(self._batch_size)
        view = memory[:num_gops]
        weakref.finalize(view, free.append, memory).atexit = False
        return view


def _finish(batch: Batch, futures: list[Future[None]], on_bad_gop: str) -> Batch:
    wait(futures)  # wakes up once, not once a GOP
    errors = [future.exception() for future in futures]
    bad = [error for error in errors if error is not None]
    if not bad:
        return batch
    for error in bad:
        if on_bad_gop == STOP or len(bad) == len(errors) or not isinstance(error, StoreError):
            raise error
        warn(f"skipped a GOP: {error}")
    good = np.flatnonzero([error is None for error in errors])
    rows = torch.from_numpy(good)
    planes = {name: plane[rows] for name, plane in batch.planes.items()}
    return Batch(planes, batch.labels[rows], batch.draws[good], len(bad))
