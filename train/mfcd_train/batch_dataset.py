"""The same batches through torch's DataLoader and its worker processes, for training code that is built around it."""

from __future__ import annotations

import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from mfcd_core.store.unpacker import PlaneReader
from mfcd_train.loader import STOP, Batch, PlaneLayout, finish_batch, labels_of, try_to_read

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_core.store import Store
    from mfcd_train.dataset import Draws

FREE, LENT = 0, 1  # the byte behind the planes
NUM_LOOKS, LOOK_SECONDS = 50, 0.001  # new memory takes as long as reading: up to 40 ms for a batch with motion


class BatchDataset(Dataset[Batch]):
    """Item i is batch i of `draws`, as `iter_batches` gives it: `DataLoader(dataset, batch_size=None, num_workers=n)`.

    Safe under fork and spawn: files are opened where they are read. A GOP that cannot be read is treated as
    `iter_batches` treats it. A worker process reads into memory that it shares with the process of the loader, which
    lends a batch to it as long as a tensor of the batch lives: then the worker uses the memory again.
    """

    def __init__(
        self, store: Store, draws: Draws, batch_size: int, *, with_motion: bool, on_bad_gop: str = STOP
    ) -> None:
        self._store, self._draws, self._batch_size, self._on_bad_gop = store, draws, batch_size, on_bad_gop
        self._reader = PlaneReader(store, with_motion=with_motion)
        self._layout = PlaneLayout(self._reader.arrays, min(batch_size, len(draws)))
        self._shared: deque[Tensor] = deque(maxlen=self._layout.num_at_once)

    def __len__(self) -> int:
        return (len(self._draws) + self._batch_size - 1) // self._batch_size

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index}: expected 0 to {len(self) - 1}")
        draws = self._draws[index * self._batch_size : (index + 1) * self._batch_size]
        if get_worker_info() is None:
            return self._read(draws, np.empty(self._layout.num_bytes, np.uint8))
        memory = self._shared_memory()
        batch = self._read(draws, memory.numpy())
        if batch.num_skipped:
            return batch  # a copy, without what could not be read
        memory[-1] = LENT
        return _LentBatch(batch.planes, batch.labels, draws, memory=memory, layout=self._layout)

    def _read(self, draws: Draws, memory: NDArray[np.uint8]) -> Batch:
        arrays = self._layout.arrays(memory, len(draws))
        planes = {name: torch.from_numpy(array) for name, array in arrays.items()}
        read = [(place, try_to_read(self._reader, gop, arrays, place)) for place, gop in enumerate(draws.gop.tolist())]
        errors = {place: error for place, error in read if error is not None}
        return finish_batch(Batch(planes, labels_of(self._store, draws), draws), errors, self._on_bad_gop)

    def _shared_memory(self) -> Tensor:
        """What has come back, or comes back while new memory would be filled with zeros, or else new.

        What is no longer kept here goes with its batch.
        """
        for _ in range(NUM_LOOKS if len(self._shared) == self._shared.maxlen else 1):
            for memory in self._shared:
                if memory[-1] == FREE:
                    return memory
            time.sleep(LOOK_SECONDS)
        shared: Any = torch.UntypedStorage
        storage = shared._new_shared(self._layout.num_bytes + 1)  # noqa: SLF001 - as torch's own collate does
        self._shared.append(torch.empty(0, dtype=torch.uint8).set_(storage))
        return self._shared[-1]


@dataclass(frozen=True)
class _LentBatch(Batch):
    """A batch on its way from a worker: the other process gets the same memory, and gives it back at the end."""

    memory: Tensor | None = None
    layout: PlaneLayout | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _borrow, (self.memory, self.layout, self.labels.numpy(), self.draws)


def _borrow(memory: Tensor, layout: PlaneLayout, labels: NDArray[np.int64], draws: Draws) -> Batch:
    view = memory.numpy()
    weakref.finalize(view, _give_back, memory).atexit = False
    arrays = layout.arrays(view, len(draws))
    planes = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Batch(planes, torch.from_numpy(labels), draws)


def _give_back(memory: Tensor) -> None:
    memory[-1] = FREE
