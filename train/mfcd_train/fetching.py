"""The bytes of the next batch, as stored: in memory before there is room for what they hold (DESIGN 5)."""

from __future__ import annotations

from concurrent.futures import CancelledError, wait
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor, Future

    from numpy.typing import NDArray

    from mfcd_core.store.unpacker import PlaneReader


class Fetching:
    """Threads that have nothing else to do read the GOPs of a batch, until one of them wants to unpack it.

    room: memory of the batch before, to be used again when `users`, tasks that were begun earlier, are done with it.
    What cannot be read, or is not read in time, is left to those who unpack.
    """

    def __init__(self, reader: PlaneReader, room: NDArray[np.uint8], users: Sequence[Future[None]]) -> None:
        self._room = room
        self._reader, self._users = reader, users
        self._stored: dict[int, memoryview] = {}
        self._tasks: list[Future[None]] = []
        self._is_over = False

    @property
    def is_begun(self) -> bool:
        """Whether there is a batch."""
        return bool(self._tasks)

    def begin(self, gops: Sequence[int], threads: Executor, num_threads: int) -> None:
        """Begin with GOPs by their rows of gops.npy."""
        ends = [0, *self._reader.stored_bytes(gops).cumsum().tolist()]
        if ends[-1] > len(self._room):
            self._room = np.full(ends[-1] + ends[-1] // 4, 0, np.uint8)  # written to: it is all there from now on
        rooms = [self._room[start:end].data for start, end in pairwise(ends)]
        left = iter(list(enumerate(zip(gops, rooms, strict=True))))
        self._tasks = [threads.submit(self._announce, gops)]
        self._tasks += [threads.submit(self._fetch, left) for _ in range(num_threads)]

    def followed(self, users: Sequence[Future[None]]) -> Fetching:
        """For the batch after this one, which `users` unpack."""
        return Fetching(self._reader, self._room, [task for task in (*self._users, *users) if not task.done()])

    def stop(self) -> None:
        """Begin no further GOP."""
        self._is_over = True
        for task in self._tasks:
            task.cancel()

    def result(self) -> dict[int, memoryview]:
        """Bytes by place in the batch, to be taken out; waits for the reads that `stop` found under way."""
        for task in self._tasks:
            with suppress(CancelledError):
                task.result()
        return self._stored

    def _announce(self, gops: Sequence[int]) -> None:
        """All at once: the system fetches side by side what threads then read one by one."""
        for gop in gops:
            self._reader.announce(gop)

    def _fetch(self, left: Iterator[tuple[int, tuple[int, memoryview]]]) -> None:
        wait(self._users)
        for place, (gop, room) in left:
            if self._is_over:
                return
            with suppress(StoreError):
                self._stored[place] = self._reader.fetch(gop, room)
