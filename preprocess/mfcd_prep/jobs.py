"""The engine under every batch: many tasks over many processes, where a task that fails costs itself alone."""

from __future__ import annotations

import os
import re
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mfcd_core.errors import KilledError, MfcdError, OutputError, SourceError, VersionsError, VideoError
from mfcd_prep.output import is_about_output, output_error
from mfcd_prep.workers import TIMED_OUT_STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from mfcd_prep.workers import Workers

Task = TypeVar("Task")
Result = TypeVar("Result")

WATCH_SECONDS = 5.0
EXIT_CODE = re.compile(r"\{(\w+)\((-?\d+)\)")
STOPS_THE_RUN = (OutputError, SourceError, VersionsError)


@dataclass(frozen=True)
class Done(Generic[Result]):
    """A task came to its end with `value`."""

    value: Result


@dataclass(frozen=True)
class Lost:
    """A task raised, or its process was killed twice; `reason` is one line, `problem` its class."""

    reason: str
    problem: str = "error"


@dataclass(frozen=True)
class Killed:
    """A process of the task was killed: it is to run once more, alone."""

    reason: str


Outcome = Done[Result] | Lost
Attempt = Done[Result] | Lost | Killed


class _Queue(Generic[Task]):
    """Tasks as they are drawn; the parts of one that was split come next."""

    def __init__(self, tasks: Iterable[Task], split: Callable[[Task], Sequence[Task]]) -> None:
        self._tasks = iter(tasks)
        self._parts: deque[Task] = deque()
        self.split = split

    def draw(self, count: int) -> Iterator[Task]:
        return islice(chain(self._drawn_parts(), self._tasks), count)

    def _drawn_parts(self) -> Iterator[Task]:
        while self._parts:
            yield self._parts.popleft()

    def takes_parts_of(self, task: Task) -> bool:
        """Split a task and queue what it has several of; False where it is one."""
        parts = self.split(task)
        if len(parts) > 1:
            self._parts.extend(parts)
        return len(parts) > 1


def _as_it_is(task: Task) -> Sequence[Task]:
    return (task,)


def run_tasks(
    tasks: Iterable[Task],
    worker: Callable[[Task], Result],
    workers: Workers,
    on_result: Callable[[Task, Outcome[Result]], None],
    split: Callable[[Task], Sequence[Task]] = _as_it_is,
) -> None:
    """Run `worker` on every task and report each outcome once, in this process, in no fixed order.

    Tasks are drawn as they are needed. A task whose process is killed, and every task that goes down with it, runs
    once more, alone; one that is killed again is Lost. KeyboardInterrupt, or an exception of `on_result`, stops
    everything and passes on. split: a task that has parts is only reported Done; Lost or killed, it says nothing, and
    each part takes its place, as a task of its own.

    Raises:
        OutputError, SourceError, VersionsError: raised by a task; no other could succeed either.
    """
    attempt = partial(_attempt, worker)
    queue = _Queue(tasks, split)
    while suspects := _run_until_crash(queue, attempt, workers, on_result):
        alone = iter(suspects)
        while _run_alone(alone, attempt, workers, on_result):
            pass


def _attempt(worker: Callable[[Task], Result], task: Task) -> Attempt[Result]:
    try:
        return Done(worker(task))
    except STOPS_THE_RUN:
        raise
    except KilledError as error:
        return Killed(_one_line(error))
    except VideoError as error:
        return Lost(_one_line(error), error.problem)
    except OSError as error:
        if is_about_output(error):
            raise output_error(error.filename or "the output folder", os.strerror(error.errno or 0)) from None
        return Lost(_reason(error), "gone" if isinstance(error, FileNotFoundError) else "unreadable")
    except Exception as error:  # noqa: BLE001, a task costs itself
        return Lost(_reason(error))


def _run_until_crash(
    queue: _Queue[Task],
    attempt: Callable[[Task], Attempt[Result]],
    workers: Workers,
    on_result: Callable[[Task, Outcome[Result]], None],
) -> list[Task]:
    """Work through `queue`, or until the pool breaks; return the tasks that are to run once more."""
    running: dict[Future[Attempt[Result]], Task] = {}
    suspects: list[Task] = []
    with workers.pool() as pool:
        while True:
            for task in queue.draw(max(workers.num_slots - len(running), 0)):
                running[_submit(pool, attempt, task)] = task
            if not running:
                return suspects
            finished = wait(running, WATCH_SECONDS, FIRST_COMPLETED).done
            workers.watch()
            broken = workers.breaks and any(workers.is_crash(future.exception()) for future in finished)
            for future in wait(running).done if broken else finished:
                task, outcome = running.pop(future), _outcome(future, workers)
                if isinstance(outcome, Killed):
                    suspects.extend(queue.split(task))
                elif isinstance(outcome, Done) or not queue.takes_parts_of(task):
                    on_result(task, outcome)
            if broken:
                return suspects


def _run_alone(
    suspects: Iterator[Task],
    attempt: Callable[[Task], Attempt[Result]],
    workers: Workers,
    on_result: Callable[[Task, Outcome[Result]], None],
) -> bool:
    """Run one task after another, until none is left or the pool breaks; returns whether it broke."""
    with workers.pool_of_one() as pool:
        for task in suspects:
            future = _submit(pool, attempt, task)
            while not wait([future], WATCH_SECONDS).done:
                workers.watch()
            outcome = _outcome(future, workers)
            on_result(task, _killed_twice(outcome) if isinstance(outcome, Killed) else outcome)
            if workers.breaks and workers.is_crash(future.exception()):
                return True
    return False


def _killed_twice(killed: Killed) -> Lost:
    if f"({TIMED_OUT_STATUS})" in killed.reason:
        return Lost("hung beyond --timeout twice, in code that cannot be interrupted: raise --timeout", "timeout")
    return Lost(f"{killed.reason.removesuffix(': run again')}, twice; run again to retry", "killed")


def _submit(pool: Executor, attempt: Callable[[Task], Attempt[Result]], task: Task) -> Future[Attempt[Result]]:
    """A future even where the pool broke since the last look at it."""
    try:
        return pool.submit(attempt, task)
    except BrokenProcessPool as error:
        future: Future[Attempt[Result]] = Future()
        future.set_exception(error)
        return future


def _outcome(future: Future[Attempt[Result]], workers: Workers) -> Attempt[Result]:
    if future.cancelled():
        raise MfcdError("the cluster dropped its tasks (did its scheduler end?): run the same command again")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, STOPS_THE_RUN):
        raise error
    return Killed(_crash_reason(error)) if workers.is_crash(error) else Lost(_reason(error))


def _crash_reason(error: BaseException) -> str:
    """Loky's message holds how each process ended, for example {SIGKILL(-9)}; Dask's names the workers."""
    code = EXIT_CODE.search(str(error))
    if code is None:
        return "its process was lost"
    number = int(code[2])
    return f"its process ended with {code[1]}" if number < 0 else f"its process ended with status ({number})"


def _reason(error: BaseException) -> str:
    return _one_line(error) if isinstance(error, MfcdError) else f"{type(error).__name__}: {_one_line(error)}"


def _one_line(error: Any) -> str:  # noqa: ANN401, anything with a text
    return " ".join(str(error).split())
