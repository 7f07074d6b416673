"""Batches of planes, read and unpacked ahead of the network by threads (DESIGN 5)."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor, thread
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from mfcd_core.console import warn
from mfcd_core.errors import StoreError, UsageError
from mfcd_core.store.unpacker import PlaneReader
from mfcd_train.fetching import Fetching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_core.store import Store
    from mfcd_core.store.packing import StoredArray
    from mfcd_train.dataset import Draws

PREFETCH = 2  # batches ahead of the one in use: in plain values as far as there is memory, else as stored
MEMORY_BYTES = 170_000_000  # of batches, the one in use with them, where three would take more than two have to
EXECUTORS_LOCK = getattr(thread, "_global_shutdown_lock", threading.Lock())  # every `submit` takes it
STOP, SKIP = "stop", "skip"
ON_BAD_GOP = (STOP, SKIP)
"""What to do about a GOP that cannot be read: end with its error, or leave it out, said aloud and counted."""


@dataclass(frozen=True)
class Batch:
    """GOPs ready for the device: nothing is left to be decompressed or unpacked.

    planes: by the names of `StoreSettings.stored_arrays`, (N, *shape) of `read_dtype`, plain values: residuals in
    steps, motion modulo 256 up to 256 pixels a side. labels: (N,) int64. draws: what was drawn.
    num_skipped: draws that are not among them because their GOPs could not be read.
    """

    planes: Mapping[str, Tensor]
    labels: Tensor
    draws: Draws
    num_skipped: int = 0

    def __getitem__(self, rows: slice) -> Batch:
        planes = {name: plane[rows] for name, plane in self.planes.items()}
        return Batch(planes, self.labels[rows], self.draws[rows])

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory: what `DataLoader(pin_memory=True)` asks for where there is a GPU."""
        planes = {name: plane.pin_memory() for name, plane in self.planes.items()}
        return replace(self, planes=planes, labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; the copy is complete, its source may be used again."""
        planes = {name: plane.to(device) for name, plane in self.planes.items()}
        return replace(self, planes=planes, labels=self.labels.to(device))


def iter_batches(  # noqa: PLR0913 - what to read, and how
    store: Store,
    draws: Draws,
    batch_size: int,
    *,
    with_motion: bool,
    with_residual: bool = True,
    num_threads: int,
    start: int = 0,
    on_bad_gop: str = STOP,
) -> Iterator[Batch]:
    """Read `draws` in batches from batch number `start` on; the last one may be smaller.

    with_motion, with_residual: whether these are read; a clip format knows what it needs.
    A GOP that cannot be read raises StoreError, or ChecksumError for damage, with shard, video and GOP; with
    `on_bad_gop` "skip" it is left out of its batch, with a warning, unless nothing of the batch is left. Raises
    UsageError for no batch size and for another `on_bad_gop`.
    """
    require_reading(batch_size, on_bad_gop)
    firsts = range(start * batch_size, len(draws), batch_size)
    reader = PlaneReader(store, with_motion=with_motion, with_residual=with_residual)
    reading = _Reading(reader, draws, firsts, num_threads, on_bad_gop)
    try:
        while reading.goes_on:
            yield reading.take()  # not held here: its memory is free as soon as the caller lets go of it
    finally:
        reading.close()


def require_reading(batch_size: int, on_bad_gop: str) -> None:
    """Raises UsageError for what would read other batches than were meant."""
    if batch_size < 1:
        raise UsageError(f"batch_size {batch_size}: expected at least 1")
    if on_bad_gop not in ON_BAD_GOP:
        raise UsageError(f"on_bad_gop {on_bad_gop!r}: expected {' or '.join(map(repr, ON_BAD_GOP))}")


class _Begun(NamedTuple):
    """A batch in the making: errors by place in it, and what each thread does for it."""

    batch: Batch
    errors: dict[int, StoreError]
    shares: list[Future[None]]


class _Reading:
    """Begins batches ahead, each as soon as there is memory for it: what the last holder of one has let go of."""

    def __init__(self, reader: PlaneReader, draws: Draws, firsts: range, num_threads: int, on_bad_gop: str) -> None:
        self._num_threads, self._on_bad_gop = num_threads, on_bad_gop
        self._reader, self._draws, self._left, self._batch_size = reader, draws, deque(firsts), firsts.step
        self._ahead: deque[_Begun] = deque()
        self._fetching = Fetching(self._reader, np.empty(0, np.uint8), ())
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
        self._layout = PlaneLayout(self._reader.arrays, min(self._batch_size, len(draws)))
        self._num_unmade = self._layout.num_at_once
        self._free: list[Tensor] = []
        self._lock, self._is_beginning, self._is_closed = threading.RLock(), False, False

    @property
    def goes_on(self) -> bool:
        """Whether there is a batch to be taken."""
        with self._lock:  # the last batch is in one of them, but another thread may be about to move it
            return bool(self._ahead or self._left)

    def take(self) -> Batch:
        """The next batch, waited for."""
        with self._lock:
            self._begin()
            if not self._ahead:  # the caller keeps batches, and with them all the memory that was meant for them
                self._num_unmade += 1
                self._begin()
            begun = self._ahead.popleft()
            self._begin()
        for share in begun.shares:
            share.result()
        return finish_batch(begun.batch, begun.errors, self._on_bad_gop)

    def close(self) -> None:
        """Stop reading; returns when the threads have ended."""
        with self._lock:
            self._is_closed = True
            self._fetching.stop()
            self._left.clear()
            self._free.clear()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _begin(self) -> None:
        """Begin as many batches as there is memory for, and of the next one at least its bytes."""
        with self._lock:
            if self._is_beginning:  # a batch was let go of in the midst of it, by this very thread
                return
            self._is_beginning = True
            try:
                while self._left and len(self._ahead) < PREFETCH and (self._free or self._num_unmade):
                    self._ahead.append(self._submit(self._next()))  # Ctrl-C in here may be lost, a batch may not
                    self._left.popleft()
                if self._left and len(self._ahead) < PREFETCH and not self._fetching.is_begun:
                    self._fetching.begin(self._next().gop.tolist(), self._threads, self._num_threads)
            finally:
                self._is_beginning = False

    def _next(self) -> Draws:
        return self._draws[self._left[0] : self._left[0] + self._batch_size]

    def _submit(self, draws: Draws) -> _Begun:
        """Each thread reads the next GOP that no other one has taken: a task a thread costs less than one a GOP."""
        self._fetching.stop()
        arrays = self._layout.arrays(self._memory(), len(draws))
        planes = {name: torch.from_numpy(array) for name, array in arrays.items()}
        begun = _Begun(Batch(planes, labels_of(self._reader.store, draws), draws), {}, [])
        gops = enumerate(draws.gop.tolist())
        for _ in range(min(self._num_threads, len(draws))):
            begun.shares.append(self._threads.submit(self._read, gops, self._fetching, arrays, begun.errors))
        self._fetching = self._fetching.followed(begun.shares)
        return begun

    def _read(
        self,
        gops: Iterator[tuple[int, int]],
        fetching: Fetching,
        arrays: Mapping[str, NDArray[Any]],
        errors: dict[int, StoreError],
    ) -> None:
        stored = fetching.result()
        for place, gop in gops:
            if (error := try_to_read(self._reader, gop, arrays, place, stored.pop(place, None))) is not None:
                errors[place] = error
            if self._is_closed or (errors and self._on_bad_gop == STOP):
                return

    def _memory(self) -> NDArray[np.uint8]:
        """Memory that is used again when the last array or tensor of it is gone."""
        if self._free:
            memory = self._free.pop()
        else:
            memory, self._num_unmade = self._layout.empty(), self._num_unmade - 1
        view: NDArray[np.uint8] = memory.numpy()
        weakref.finalize(view, self._take_back, memory).atexit = False
        return view

    def _take_back(self, memory: Tensor) -> None:
        """Anywhere: what collects garbage may be a thread in the midst of submitting a task to an executor."""
        if self._left:
            self._free.append(memory)
            if not EXECUTORS_LOCK.locked():  # else the next one who takes a batch begins with that memory
                self._begin()


class PlaneLayout:
    """Where the planes of a batch of `batch_size` GOPs lie in one piece of memory of `num_bytes` bytes."""

    def __init__(self, arrays: Sequence[StoredArray], batch_size: int) -> None:
        starts = [0, *accumulate(batch_size * array.num_bytes for array in arrays)]
        self._places = [(a.name, a.shape, a.read_dtype, start) for a, start in zip(arrays, starts[:-1], strict=True)]
        self.num_bytes = starts[-1]

    @property
    def num_at_once(self) -> int:
        """Of how many batches there is memory, the one in use with them; see MEMORY_BYTES."""
        return min(max(MEMORY_BYTES // max(self.num_bytes, 1), 2), 1 + PREFETCH)

    def empty(self) -> Tensor:
        """Such memory: page-locked where there is a GPU, which is faster to copy from; else huge pages, by NumPy."""
        if torch.cuda.is_available():
            return torch.empty(self.num_bytes, dtype=torch.uint8, pin_memory=True)
        return torch.from_numpy(np.empty(self.num_bytes, np.uint8))

    def tensors(self, memory: Tensor, num_gops: int) -> dict[str, Tensor]:
        """The same as views of its storage, which other processes may share."""
        arrays = self.arrays(memory.numpy(), num_gops)
        found = {}
        for name, _, _, start in self._places:
            like = torch.from_numpy(arrays[name])
            found[name] = memory[start : start + arrays[name].nbytes].view(like.dtype).view(like.shape)
        return found

    def arrays(self, memory: NDArray[np.uint8], num_gops: int) -> dict[str, NDArray[Any]]:
        """Planes of the first GOPs in it, by name, (num_gops, *shape) of `read_dtype`."""
        return {
            name: np.ndarray((num_gops, *shape), dtype, memory.data, start)
            for name, shape, dtype, start in self._places
        }


def labels_of(store: Store, draws: Draws) -> Tensor:
    """Labels of what was drawn, (N,) int64."""
    return torch.from_numpy(store.videos.labels[draws.video].astype(np.int64))


def try_to_read(
    reader: PlaneReader, gop: int, planes: Mapping[str, NDArray[Any]], place: int, stored: memoryview | None = None
) -> StoreError | None:
    """Read a GOP, or take it from `stored`, into its place in the planes of a batch; returns why that cannot be."""
    try:
        reader.read_into(gop, {name: plane[place] for name, plane in planes.items()}, stored)
    except StoreError as error:
        return error
    return None


def finish_batch(batch: Batch, errors: Mapping[int, StoreError], on_bad_gop: str) -> Batch:
    """The batch without the GOPs that could not be read, whose errors are given by place; see `iter_batches`."""
    if not errors:
        return batch
    if on_bad_gop == STOP or len(errors) == len(batch.labels):
        raise errors[min(errors)]
    for place in sorted(errors):
        warn(f"skipped a GOP: {errors[place]}")
    good = np.setdiff1d(np.arange(len(batch.labels)), list(errors))
    rows = torch.from_numpy(good)
    planes = {name: plane[rows] for name, plane in batch.planes.items()}
    return Batch(planes, batch.labels[rows], batch.draws[good], len(errors))
