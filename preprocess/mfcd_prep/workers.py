"""Where tasks run: in this process, in processes of this machine, or on a Dask cluster; one interface (DESIGN 8)."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from loky import ProcessPoolExecutor

from mfcd_prep.process import at_the_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

PARENT_CHECK_SECONDS = 0.1
TIMED_OUT_STATUS = 124  # as of coreutils' timeout
GRACE_SECONDS = 30.0


class Workers(Protocol):
    """A place where tasks run."""

    @property
    def breaks(self) -> bool:
        """Whether a process that dies takes the whole pool, and every task under way, with it."""

    @property
    def is_here(self) -> bool:
        """Whether all tasks run on this machine."""

    @property
    def num_slots(self) -> int:
        """Tasks that may be under way at once, waiting ones included."""

    def pool(self) -> AbstractContextManager[Executor]:
        """A new pool; on the way out nothing of it is left running."""

    def pool_of_one(self) -> AbstractContextManager[Executor]:
        """A new pool that runs one task at a time."""

    def is_crash(self, error: BaseException | None) -> bool:
        """Whether a future's exception says that its process died, instead of what its task raised."""

    def watch(self) -> None:
        """Called every few seconds while tasks are under way; raises MfcdError when none can ever end."""


@dataclass(frozen=True)
class InThisProcess:
    """One task after another, here; a task that crashes takes the run with it."""

    breaks: bool = False
    is_here: bool = True
    num_slots: int = 1

    def pool(self) -> AbstractContextManager[Executor]:
        """See `Workers`."""
        return nullcontext(_Inline())

    pool_of_one = pool

    def is_crash(self, error: BaseException | None) -> bool:  # noqa: ARG002, see `Workers`
        """See `Workers`."""
        return False

    def watch(self) -> None:
        """See `Workers`."""


IN_THIS_PROCESS = InThisProcess()


class _Inline(Executor):
    def submit(self, task: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:  # noqa: ANN401, as of Executor
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments, **options))
        except Exception as error:  # noqa: BLE001, the future has it
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class OnThisMachine:
    """`jobs` processes of loky's executor; a task and its result need to pickle."""

    jobs: int
    breaks: bool = True
    is_here: bool = True

    @property
    def num_slots(self) -> int:
        """One under way and one waiting a process."""
        return 2 * self.jobs

    def pool(self) -> AbstractContextManager[Executor]:
        """See `Workers`."""
        return _processes(self.jobs)

    def pool_of_one(self) -> AbstractContextManager[Executor]:
        """See `Workers`."""
        return _processes(1)

    def is_crash(self, error: BaseException | None) -> bool:
        """See `Workers`."""
        return isinstance(error, BrokenProcessPool)

    def watch(self) -> None:
        """See `Workers`."""


@contextmanager
def _processes(jobs: int) -> Iterator[Executor]:
    pool = ProcessPoolExecutor(max_workers=jobs, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        with _deaf_to_interrupts():
            pool.shutdown(wait=True, kill_workers=True)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ignore a second Ctrl-C: it would also end the tools by which the pool finds its workers, and leave them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


_is_pool_process = threading.Event()


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone: nobody would take the results.

    The parent says its number itself: it may be gone before this is asked for the first time.
    """
    _is_pool_process.set()
    _prefer_throughput()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _prefer_throughput() -> None:
    """Let the kernel run this process and its programs in longer stretches: nobody waits for a single answer."""
    if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


@contextmanager
def hard_limit(seconds: float | None) -> Iterator[None]:
    """End this process where its work hangs beyond `seconds` and a grace, in code that cannot be interrupted.

    Of use in a process of `OnThisMachine` alone; elsewhere, and with None, there is no limit.
    """
    limit = None if seconds is None or not _is_pool_process.is_set() else seconds + GRACE_SECONDS
    with at_the_latest(limit, os._exit, TIMED_OUT_STATUS):
        yield
