"""The engine under every batch: many tasks over several processes, where a task that fails costs itself alone."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from joblib.externals.loky import ProcessPoolExecutor

from mfcd_core.errors import MfcdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

Task = TypeVar("Task")
Result = TypeVar("Result")

IN_FLIGHT_PER_JOB = 2
PARENT_CHECK_SECONDS = 1.0
EXIT_CODE = re.compile(r"\{(\w+)\((-?\d+)\)")


@dataclass(frozen=True)
class Done(Generic[Result]):
    """A task came to its end with `value`."""

    value: Result


@dataclass(frozen=True)
class Lost:
    """A task raised, or killed its process twice; `reason` is one line."""

    reason: str


Outcome = Done[Result] | Lost


def run_tasks(
    tasks: Iterable[Task],
    worker: Callable[[Task], Result],
    jobs: int,
    on_result: Callable[[Task, Outcome[Result]], None],
) -> None:
    """Run `worker` on every task and report each outcome once, in this process, in no fixed order.

    `jobs` = 1 runs in this process; more need a worker and tasks that pickle. Tasks are drawn as they are needed.
    When a process dies, the tasks that were under way run once more, each alone; one that kills its process again
    is Lost. KeyboardInterrupt, or an exception of `on_result`, stops every process and passes on.
    """
    attempt = partial(_attempt, worker)
    remaining = iter(tasks)
    if jobs == 1:
        for task in remaining:
            on_result(task, attempt(task))
        return
    while suspects := _run_until_crash(remaining, attempt, jobs, on_result):
        for task in suspects:
            on_result(task, _attempt_alone(attempt, task))


def _attempt(worker: Callable[[Task], Result], task: Task) -> Outcome[Result]:
    try:
        return Done(worker(task))
    except Exception as error:  # noqa: BLE001, a task costs itself
        return Lost(_reason(error))


def _attempt_alone(attempt: Callable[[Task], Outcome[Result]], task: Task) -> Outcome[Result]:
    with _pool(1) as pool:
        return _outcome(_submit(pool, attempt, task))


def _run_until_crash(
    remaining: Iterator[Task],
    attempt: Callable[[Task], Outcome[Result]],
    jobs: int,
    on_result: Callable[[Task, Outcome[Result]], None],
) -> list[Task]:
    """Work through `remaining`; when a process dies, return the tasks that were under way."""
    running: dict[Future[Outcome[Result]], Task] = {}
    with _pool(jobs) as pool:
        while True:
            while len(running) < jobs * IN_FLIGHT_PER_JOB and (drawn := list(_draw(remaining))):
                running[_submit(pool, attempt, drawn[0])] = drawn[0]
            if not running:
                return []
            finished = wait(running, return_when=FIRST_COMPLETED).done
            if any(map(_is_crash, finished)):
                return _settle(running, on_result)
            for future in finished:
                on_result(running.pop(future), _outcome(future))


def _draw(remaining: Iterator[Task]) -> Iterator[Task]:
    """At most one task."""
    for task in remaining:
        yield task
        return


def _settle(
    running: dict[Future[Outcome[Result]], Task], on_result: Callable[[Task, Outcome[Result]], None]
) -> list[Task]:
    """Report what came to its end before the crash; return the rest."""
    wait(running)
    suspects = []
    for future, task in running.items():
        if _is_crash(future):
            suspects.append(task)
        else:
            on_result(task, _outcome(future))
    return suspects


def _submit(pool: Executor, attempt: Callable[[Task], Outcome[Result]], task: Task) -> Future[Outcome[Result]]:
    """A future even where the pool broke since the last look at it."""
    try:
        return pool.submit(attempt, task)
    except BrokenProcessPool as error:
        future: Future[Outcome[Result]] = Future()
        future.set_exception(error)
        return future


def _is_crash(future: Future[Any]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


def _outcome(future: Future[Outcome[Result]]) -> Outcome[Result]:
    error = future.exception()
    return future.result() if error is None else Lost(_reason(error))


def _reason(error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        code = EXIT_CODE.search(str(error))
        return f"its process ended with {code[1] if code else 'no exit code'} twice; run again to retry"
    message = " ".join(str(error).split())
    return message if isinstance(error, MfcdError) else f"{type(error).__name__}: {message}"


@contextmanager
def _pool(jobs: int) -> Iterator[Executor]:
    pool = ProcessPoolExecutor(max_workers=jobs, initializer=_start_worker)
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


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone: nobody would take the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)
