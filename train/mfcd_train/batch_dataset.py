"""The same batches through torch's DataLoader and its worker processes, for training code that is built around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset, get_worker_info

from mfcd_core.store.unpacker import PlaneReader
from mfcd_train.loader import STOP, Batch, PlaneLayout, finish_batch, labels_of, try_to_read

if TYPE_CHECKING:
    from torch import Tensor

    from mfcd_core.store import Store
    from mfcd_train.dataset import Draws


class BatchDataset(Dataset[Batch]):
    """Item i is batch i of `draws`, as `iter_batches` gives it: `DataLoader(dataset, batch_size=None, num_workers=n)`.

    Safe under fork and spawn: files are opened where they are read. A GOP that cannot be read is treated as
    `iter_batches` treats it.
    """

    def __init__(
        self, store: Store, draws: Draws, batch_size: int, *, with_motion: bool, on_bad_gop: str = STOP
    ) -> None:
        self._store, self._draws, self._batch_size, self._on_bad_gop = store, draws, batch_size, on_bad_gop
        self._reader = PlaneReader(store, with_motion=with_motion)

    def __len__(self) -> int:
        return (len(self._draws) + self._batch_size - 1) // self._batch_size

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index}: expected 0 to {len(self) - 1}")
        draws = self._draws[index * self._batch_size : (index + 1) * self._batch_size]
        layout = PlaneLayout(self._reader.arrays, len(draws))
        planes = layout.tensors(_memory(layout.num_bytes))
        arrays = {name: plane.numpy() for name, plane in planes.items()}
        read = [(place, try_to_read(self._reader, gop, arrays, place)) for place, gop in enumerate(draws.gop.tolist())]
        errors = {place: error for place, error in read if error is not None}
        return finish_batch(Batch(planes, labels_of(self._store, draws), draws), errors, self._on_bad_gop)


def _memory(num_bytes: int) -> Tensor:
    """In a worker process, memory that the process of the loader sees, too, so that a batch is not copied."""
    if get_worker_info() is None:
        return torch.empty(num_bytes, dtype=torch.uint8)
    shared: Any = torch.UntypedStorage
    return torch.empty(0, dtype=torch.uint8).set_(shared._new_shared(num_bytes))  # noqa: SLF001 - as torch's own does
