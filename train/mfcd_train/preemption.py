"""A run that a scheduler wants to end: SIGTERM is a wish, granted after the step at hand with a checkpoint."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfcd_core.errors import MfcdError

if TYPE_CHECKING:
    from collections.abc import Iterator
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

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
