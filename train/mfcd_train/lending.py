"""Memory of batches that a worker process of a DataLoader lends to the process of the loader, and uses again."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing

from mfcd_train.loader import Batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_train.loader import PlaneLayout

FREE, LENT = 0, 1
LOOK_SECONDS, PATIENCE_SECONDS = 0.001, 1.0  # a worker that waits is ahead of a loader that uses its batches


class Lender:
    """Of a worker process: as many memories as there are at once of `layout`, each for one batch after the other."""

    def __init__(self, layout: PlaneLayout) -> None:
        self._layout = layout
        self._memories: deque[_Memory] = deque(maxlen=layout.num_at_once)
        self._comes_back = True

    def take(self) -> _Memory:
        """What has come back; where all is lent, what comes back in a while; else new, for which the oldest is let go.

        Who waited in vain, because somebody keeps the batches, does not wait again until some memory has come back.
        """
        is_full = len(self._memories) == self._memories.maxlen
        until = time.monotonic() + PATIENCE_SECONDS * (is_full and self._comes_back)
        while (memory := self._returned()) is None and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        self._comes_back = memory is not None or not is_full
        if memory is None:
            memory = _Memory(self._layout)
            self._memories.append(memory)
        return memory

    def _returned(self) -> _Memory | None:
        return next((memory for memory in self._memories if memory.is_free), None)


class _Memory:
    """Planes of one batch, and a byte that says whether another process has them, both shared.

    layout: where the planes lie.
    """

    def __init__(self, layout: PlaneLayout) -> None:
        self.layout = layout
        self.planes, self.state = _shared(layout.num_bytes), _shared(1)
        self._state = self.state.numpy()
        self._view: weakref.ref[NDArray[np.uint8]] | None = None  # the same one as long as its array lives

    @property
    def is_free(self) -> bool:
        """Whether no tensor of the last batch in it is left, here or elsewhere."""
        return not self.is_lent and (self._view is None or self._view() is None)

    @property
    def is_lent(self) -> bool:
        """Whether another process has it."""
        return bool(self._state[0] == LENT)

    def view(self) -> NDArray[np.uint8]:
        """For a batch: the memory is not free as long as the array, or anything made of it, lives."""
        view: NDArray[np.uint8] = self.planes.numpy()
        self._view = weakref.ref(view)
        return view

    def is_of(self, view: weakref.ref[NDArray[np.uint8]]) -> bool:
        """Whether the batch of `view` is still what lies here."""
        return self._view is view and view() is not None

    def lend(self) -> tuple[Tensor, Tensor, PlaneLayout]:
        """What the other process needs."""
        self._state[0] = LENT
        return self.planes, self.state, self.layout


@dataclass(frozen=True, kw_only=True)
class LentBatch(Batch):
    """A batch of a worker: as long as it is what was read, another process gets its planes without a copy.

    memory, view: where it lies. read: how its planes looked, see `_look_of`.
    """

    memory: _Memory
    view: weakref.ref[NDArray[np.uint8]]
    read: list[object]

    @classmethod
    def of(cls, batch: Batch, memory: _Memory, view: NDArray[np.uint8]) -> LentBatch:
        """`batch` was read into `view`, the last one of `memory`."""
        read = _look_of(batch)
        return cls(batch.planes, batch.labels, batch.draws, memory=memory, view=weakref.ref(view), read=read)

    def __reduce__(self) -> tuple[Any, ...]:  # what copies it, or writes it to a file
        return Batch, (self.planes, self.labels, self.draws, self.num_skipped)


def _look_of(batch: Batch) -> list[object]:
    return [(name, p.data_ptr(), p.dtype, p.shape, p.stride()) for name, p in batch.planes.items()]


def _reduce(batch: LentBatch) -> tuple[Any, ...]:
    """For another process; whatever is not the batch that was read goes the way of all tensors."""
    if not batch.memory.is_of(batch.view) or batch.memory.is_lent or _look_of(batch) != batch.read:
        return batch.__reduce__()
    num_gops = len(next(iter(batch.planes.values())))
    rest = Batch({}, batch.labels, batch.draws, batch.num_skipped)
    return _borrow, (*batch.memory.lend(), num_gops, rest)


ForkingPickler.register(LentBatch, _reduce)
_BORROWED: set[weakref.finalize[Any, Any]] = set()


def _borrow(memory: Tensor, state: Tensor, layout: PlaneLayout, num_gops: int, rest: Batch) -> Batch:
    borrowed = weakref.finalize(memory.untyped_storage(), lambda: _give_back(state.numpy(), borrowed))
    borrowed.atexit = False
    _BORROWED.add(borrowed)
    return replace(rest, planes=layout.tensors(memory, num_gops))


def _give_back(state: NDArray[np.uint8], borrowed: weakref.finalize[Any, Any]) -> None:
    _BORROWED.discard(borrowed)
    state[0] = FREE


def _keep_all() -> None:
    """A child is forked: it sees the batches that are here now, so none of them is given back, by either process."""
    while _BORROWED:
        _BORROWED.pop().detach()


os.register_at_fork(before=_keep_all)


def _shared(num_bytes: int) -> Tensor:
    """Memory that other processes can map: without a name, where torch passes descriptors, so that nobody leaves it."""
    untyped: Any = torch
    if untyped.multiprocessing.get_sharing_strategy() != "file_descriptor" or not hasattr(os, "memfd_create"):
        named: Tensor = untyped.empty(num_bytes, dtype=torch.uint8).share_memory_()
        return named
    with os.fdopen(os.memfd_create("batch"), "wb") as file:
        file.truncate(num_bytes)
        mapped = untyped.UntypedStorage._new_shared_fd_cpu(file.fileno(), num_bytes)  # noqa: SLF001 - no other way in
    return torch.empty(0, dtype=torch.uint8).set_(mapped)
