"""Workers of a Dask cluster: anything that runs a scheduler and workers which see the same folders."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mfcd_core.errors import MfcdError, UsageError

try:
    from distributed import Client
    from distributed.scheduler import KilledWorker
except ImportError as error:
    raise UsageError(f"--dask needs the package distributed ({error}): pip install 'mfcd[cluster]'") from None

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

CONNECT_SECONDS = 20
NO_WORKER_SECONDS = 600.0


@dataclass
class OnDask:
    """Tasks go to the workers of `client`'s cluster; the scheduler moves those of a worker that dies to another one.

    A task that took several workers down with it comes back as a crash (the scheduler's `allowed-failures`).
    """

    client: Client
    breaks: bool = False
    is_here: bool = False
    _seen_worker: float = field(default_factory=time.monotonic)

    @classmethod
    def connected(cls, address: str) -> OnDask:
        """Connect to the scheduler at `address`. Raises UsageError where none answers."""
        try:
            return cls(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address!r} ({error}): expected an address such as tcp://host:8786"
            ) from None

    @property
    def num_slots(self) -> int:
        """Two tasks a thread of the cluster as it is now; at least two, which wait for the first worker."""
        return 2 * max(sum(self._num_threads().values()), 1)

    @contextmanager
    def pool(self) -> Iterator[Executor]:
        """See `Workers`."""
        executor = self.client.get_executor(pure=False, retries=0)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)  # cancels what is left

    pool_of_one = pool

    def is_crash(self, error: BaseException | None) -> bool:
        """See `Workers`."""
        return isinstance(error, KilledWorker)

    def watch(self) -> None:
        """Raise MfcdError where no worker was seen for ten minutes, or the scheduler is gone."""
        now = time.monotonic()
        if self._num_threads():
            self._seen_worker = now
        elif now - self._seen_worker > NO_WORKER_SECONDS:
            raise MfcdError(
                f"the Dask cluster has had no worker for {NO_WORKER_SECONDS:g} s: start some, then run again"
            )

    def _num_threads(self) -> dict[str, int]:
        try:
            threads: dict[str, int] = self.client.nthreads()
        except (OSError, TimeoutError) as error:
            raise MfcdError(f"the Dask scheduler is gone ({error}): start one, then run again") from None
        return threads
