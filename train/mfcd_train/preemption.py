"""A run that a scheduler wants to end: SIGTERM is a wish, granted after the step at hand with a checkpoint."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfcd_core.errors import MfcdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PREEMPTED_STATUS = 75
"""Exit status: all is saved, run the same command again (EX_TEMPFAIL of sysexits.h)."""


class PreemptedError(MfcdError):
    """SIGTERM came, and everything is saved."""


@dataclass
class Stop:
    """Whether somebody asked this process to end."""

    asked: bool = False


@contextmanager
def sigterm_as_wish() -> Iterator[Stop]:
    """While it lasts, SIGTERM sets `asked` in place of ending the process; in the main thread alone."""
    stop = Stop()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.asked = True

    with _at_sigterm(ask):
        yield stop


@contextmanager
def sigterm_as_error() -> Iterator[None]:
    """While it lasts, SIGTERM raises PreemptedError: for work that loses nothing by that; in the main thread alone."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise PreemptedError("stopped by SIGTERM with everything saved")

    with _at_sigterm(stop):
        yield


@contextmanager
def _at_sigterm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
