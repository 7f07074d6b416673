"""Batches of planes, read and decompressed ahead of the network by threads (DESIGN 5)."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from torch import Tensor

    from mfcd_core.store import Store
    from mfcd_train.dataset import Draws

PREFETCH = 3


@dataclass(frozen=True)
class Batch:
    """Clips as stored, ready for the device.

    planes: by the names of `StoreSettings.stored_arrays`, as `StoredArray.empty` has them for N GOPs: digits that are
    still to be unpacked, and motion in plain values, of `read_dtype`. labels: (N,) int64. draws: what was drawn.
    """

    planes: Mapping[str, Tensor]
    labels: Tensor
    draws: Draws

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        planes = {name: plane.to(device, non_blocking=True) for name, plane in self.planes.items()}
        return Batch(planes, self.labels.to(device, non_blocking=True), self.draws)


def iter_batches(
    store: Store, draws: Draws, batch_size: int, *, with_motion: bool, num_threads: int, start: int = 0
) -> Iterator[Batch]:
    """Read `draws` in batches from batch number `start` on; the last one may be smaller. Raises ChecksumError."""
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
    ahead: deque[tuple[Batch, list[Future[None]]]] = deque()
    try:
        for first in range(start * batch_size, len(draws), batch_size):
            ahead.append(_begin(store, draws[first : first + batch_size], threads, with_motion=with_motion))
            if len(ahead) > PREFETCH:
                yield _finish(*ahead.popleft())
        while ahead:
            yield _finish(*ahead.popleft())
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _begin(
    store: Store, draws: Draws, threads: ThreadPoolExecutor, *, with_motion: bool
) -> tuple[Batch, list[Future[None]]]:
    arrays = [array for array in store.settings.stored_arrays() if with_motion or array.name != "motion"]
    planes = {array.name: array.empty(len(draws)) for array in arrays}
    futures = [
        threads.submit(store.read_into, gop, {name: plane[i] for name, plane in planes.items()})
        for i, gop in enumerate(draws.gop.tolist())
    ]
    labels = torch.from_numpy(store.videos.labels[draws.video].astype(np.int64))
    return Batch({name: torch.from_numpy(plane) for name, plane in planes.items()}, labels, draws), futures


def _finish(batch: Batch, futures: list[Future[None]]) -> Batch:
    for future in futures:
        future.result()
    return batch
