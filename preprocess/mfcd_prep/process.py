"""One program under a deadline: its log read line by line, and nothing of it left running, whatever happens to us."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Self

from mfcd_core.errors import DeadlineError, KilledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STOPPED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)
MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class Deadline:
    """The moment by which a task must be done.

    seconds: its whole budget, None without end. monotonic_end: what the clock will say then.
    """

    seconds: float | None = None
    monotonic_end: float = 0.0

    @classmethod
    def after(cls, seconds: float | None) -> Self:
        """`seconds` from now; None is never."""
        return cls() if seconds is None else cls(seconds, time.monotonic() + seconds)

    def remaining_seconds(self) -> float | None:
        """What is left, None without end. Raises DeadlineError when nothing is."""
        if self.seconds is None:
            return None
        left = self.monotonic_end - time.monotonic()
        if left <= 0:
            raise DeadlineError(f"took longer than {self.seconds:g} s and was stopped: raise --timeout")
        return left

    def check(self) -> None:
        """Raise DeadlineError when the time is up."""
        self.remaining_seconds()


NO_DEADLINE = Deadline()


def run_process(command: Sequence[str], deadline: Deadline, on_line: Callable[[str], None]) -> int:
    """Run `command` in a process group that dies with this call; `on_line` gets each line of its standard error.

    Returns the exit status: 0, positive, or minus the signal of its own crash.

    Raises:
        DeadlineError: the time was up.
        KilledError: it was killed from outside.
    """
    seconds = deadline.remaining_seconds()
    with _process([*_bound_to_us(), *command]) as process, at_the_latest(seconds, _kill_group, process):
        assert process.stderr is not None  # noqa: S101, it was opened as a pipe
        while line := process.stderr.readline(MAX_LINE_BYTES):
            on_line(line.decode("utf-8", "replace").rstrip())
        exit_status = process.wait()
    deadline.check()
    if -exit_status in STOPPED_FROM_OUTSIDE:
        raise KilledError(f"{command[0]} was killed by {signal.Signals(-exit_status).name}: run again")
    return exit_status


@cache
def _bound_to_us() -> tuple[str, ...]:
    """A prefix by which the kernel kills the program when we die, SIGKILL included; empty where there is none."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    prefix = (setpriv, "--pdeathsig", "KILL", "--")
    tried = subprocess.run([*prefix, "true"], capture_output=True, check=False)  # noqa: S603, a program of the system
    return prefix if tried.returncode == 0 else ()


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` with its log on a pipe; on the way out nothing of it is left running."""
    with subprocess.Popen(  # noqa: S603, a list, no shell, and paths behind `file:`
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                _kill_group(process)


@contextmanager
def at_the_latest(seconds: float | None, act: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Call `act` from a thread when the block takes longer than `seconds`; None is without end."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, act, arguments)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
