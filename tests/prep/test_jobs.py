"""Workers are nested functions: these travel to other processes by value, whatever pytest calls the module."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from mfcd_core.errors import VideoError
from mfcd_prep.jobs import Done, Lost, run_tasks
from mfcd_prep.workers import IN_THIS_PROCESS, OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mfcd_prep.jobs import Outcome
    from mfcd_prep.workers import Workers


def outcomes_of(tasks: Iterable[int], worker: Callable[[int], int], workers: Workers) -> dict[int, Outcome[int]]:
    outcomes: dict[int, Outcome[int]] = {}

    def on_result(task: int, outcome: Outcome[int]) -> None:
        assert task not in outcomes, "reported twice"
        outcomes[task] = outcome

    run_tasks(tasks, worker, workers, on_result)
    return outcomes


@pytest.mark.parametrize("workers", [IN_THIS_PROCESS, OnThisMachine(2)])
def test_every_task_is_reported_once(workers: Workers) -> None:
    assert outcomes_of(range(30), lambda task: task * task, workers) == {task: Done(task * task) for task in range(30)}


@pytest.mark.parametrize("workers", [IN_THIS_PROCESS, OnThisMachine(2)])
def test_no_task_is_no_work(workers: Workers) -> None:
    assert outcomes_of([], lambda task: task, workers) == {}


@pytest.mark.parametrize("workers", [IN_THIS_PROCESS, OnThisMachine(2)])
def test_an_exception_costs_its_own_task(workers: Workers) -> None:
    def worker(task: int) -> int:
        if task == 3:
            raise ValueError("three\nlines")
        if task == 4:
            raise VideoError("a video without frames", "no-frames")
        return task

    expected = {task: Done(task) for task in range(8)}
    lost = {3: Lost("ValueError: three lines"), 4: Lost("a video without frames", "no-frames")}
    assert outcomes_of(range(8), worker, workers) == expected | lost


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_costs_its_own_task(number: signal.Signals) -> None:
    def worker(task: int) -> int:
        if task == 5:
            os.kill(os.getpid(), number)
        return task

    outcomes = outcomes_of(range(12), worker, OnThisMachine(2))
    lost = outcomes.pop(5)
    assert isinstance(lost, Lost)
    assert number.name in lost.reason
    assert lost.problem == "killed"
    assert outcomes == {task: Done(task) for task in range(12) if task != 5}


@pytest.mark.slow
def test_tasks_that_all_kill_their_worker_are_all_lost_and_the_run_ends() -> None:
    def worker(task: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return task

    outcomes = outcomes_of(range(5), worker, OnThisMachine(2))
    assert set(outcomes) == set(range(5))
    assert all(isinstance(outcome, Lost) for outcome in outcomes.values())


def test_a_worker_that_is_killed_once_does_its_task_the_second_time(tmp_path: Path) -> None:
    def worker(task: int) -> int:
        if task == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    assert outcomes_of(range(6), worker, OnThisMachine(2)) == {task: Done(task) for task in range(6)}


def test_a_worker_that_leaves_is_lost() -> None:
    outcomes = outcomes_of([0, 1], lambda task: os._exit(3) if task else task, OnThisMachine(2))
    assert outcomes[0] == Done(0)
    assert isinstance(outcomes[1], Lost)


def test_tasks_are_drawn_as_they_are_needed() -> None:
    drawn = reported = 0

    def tasks() -> Iterator[int]:
        nonlocal drawn
        for task in range(50):
            drawn += 1
            yield task

    def on_result(_task: int, _outcome: Outcome[int]) -> None:
        nonlocal reported
        reported += 1
        assert drawn - reported <= 4 * 2

    run_tasks(tasks(), lambda task: task, OnThisMachine(2), on_result)
    assert drawn == reported == 50


@pytest.mark.parametrize("workers", [IN_THIS_PROCESS, OnThisMachine(2)])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_the_caller_raises_ends_the_run(workers: Workers, error: type[BaseException]) -> None:
    def on_result(_task: int, _outcome: Outcome[int]) -> None:
        raise error

    with pytest.raises(error):
        run_tasks(range(100), lambda task: task, workers, on_result)


@pytest.mark.parametrize("workers", [IN_THIS_PROCESS, OnThisMachine(2)])
def test_a_task_that_fails_is_split_and_its_parts_are_reported(workers: Workers) -> None:
    def worker(task: tuple[int, ...]) -> tuple[int, ...]:
        if 5 in task:
            raise ValueError("five")
        return task

    assert outcomes_of_groups(worker, workers) == {
        (0, 1, 2): Done((0, 1, 2)),
        (3,): Done((3,)),
        (4,): Done((4,)),
        (5,): Lost("ValueError: five"),
        (6, 7, 8): Done((6, 7, 8)),
    }


def test_a_task_that_kills_its_worker_is_split_and_its_culprit_is_lost() -> None:
    def worker(task: tuple[int, ...]) -> tuple[int, ...]:
        if 5 in task:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    outcomes = outcomes_of_groups(worker, OnThisMachine(1))
    lost = outcomes.pop((5,))
    assert isinstance(lost, Lost)
    assert (lost.problem, "SIGKILL" in lost.reason) == ("killed", True)
    assert {part for task in outcomes for part in task} == {0, 1, 2, 3, 4, 6, 7, 8}
    assert all(outcome == Done(task) for task, outcome in outcomes.items())


def outcomes_of_groups(
    worker: Callable[[tuple[int, ...]], tuple[int, ...]], workers: Workers
) -> dict[tuple[int, ...], Outcome[tuple[int, ...]]]:
    outcomes: dict[tuple[int, ...], Outcome[tuple[int, ...]]] = {}
    groups = [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    run_tasks(groups, worker, workers, outcomes.__setitem__, lambda task: [(part,) for part in task])
    return outcomes


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux has batch processes")
def test_workers_of_this_machine_are_batch_processes_and_we_are_not() -> None:
    before = os.sched_getscheduler(0)
    if before != os.SCHED_OTHER:
        pytest.skip("a policy that somebody chose stays")
    assert outcomes_of([0], lambda _: os.sched_getscheduler(0), OnThisMachine(1)) == {0: Done(os.SCHED_BATCH)}
    assert os.sched_getscheduler(0) == before
