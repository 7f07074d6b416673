"""The same batches through torch's DataLoader and its worker processes, for training code that is built around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from mfcd_core.store.unpacker import PlaneReader
from mfcd_train.lending import Lender, LentBatch
from mfcd_train.loader import STOP, Batch, PlaneLayout, finish_batch, labels_of, require_reading, try_to_read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mfcd_core.store import Store
    from mfcd_train.dataset import Draws


class BatchDataset(Dataset[Batch]):
    """Item i is batch i of `draws`, as `iter_batches` gives it: `DataLoader(dataset, batch_size=None, num_workers=n)`.

    The draws are those of an epoch; `draws[n * batch_size:]` go on after n batches. Safe under fork and spawn: files
    are opened where they are read. A GOP that cannot be read is treated as `iter_batches` treats it. A worker process
    reads into memory that it shares with the process of the loader: a batch is lent to it as long as one of the
    batch's tensors lives, then the worker uses the memory again. So clone what goes on to a third process. Raises
    UsageError as `iter_batches` does.
    """

    def __init__(
        self,
        store: Store,
        draws: Draws,
        batch_size: int,
        *,
        with_motion: bool,
        with_residual: bool = True,
        on_bad_gop: str = STOP,
    ) -> None:
        require_reading(batch_size, on_bad_gop)
        self._draws, self._batch_size, self._on_bad_gop = draws, batch_size, on_bad_gop
        self._reader = PlaneReader(store, with_motion=with_motion, with_residual=with_residual)
        self._layout = PlaneLayout(self._reader.arrays, min(batch_size, len(draws)))
        self._lender = Lender(self._layout)

    def __len__(self) -> int:
        return (len(self._draws) + self._batch_size - 1) // self._batch_size

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index}: expected 0 to {len(self) - 1}")
        draws = self._draws[index * self._batch_size : (index + 1) * self._batch_size]
        if get_worker_info() is None:
            return self._read(draws, np.empty(self._layout.num_bytes, np.uint8))
        memory = self._lender.take()
        view = memory.view()
        batch = self._read(draws, view)
        return batch if batch.num_skipped else LentBatch.of(batch, memory, view)  # without what was skipped: a copy

    def _read(self, draws: Draws, memory: NDArray[np.uint8]) -> Batch:
        arrays = self._layout.arrays(memory, len(draws))
        planes = {name: torch.from_numpy(array) for name, array in arrays.items()}
        read = [(place, try_to_read(self._reader, gop, arrays, place)) for place, gop in enumerate(draws.gop.tolist())]
        errors = {place: error for place, error in read if error is not None}
        return finish_batch(Batch(planes, labels_of(self._reader.store, draws), draws), errors, self._on_bad_gop)
