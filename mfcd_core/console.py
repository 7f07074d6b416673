"""The one place that prints to a person and ends the process."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.console import Console

from mfcd_core.errors import MfcdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import RenderableType

STDERR = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
HUSHED = Event()
LOG_EVERY_SECONDS = 10.0
INTERRUPTED = "interrupted: nothing recorded is lost, the same command goes on from here"


class Advance(Protocol):
    """Reports that work was done."""

    def __call__(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` to the progress and show `note` beside it."""


def hush() -> None:
    """Let this process print warnings and errors alone: for all but the first of those that work together."""
    HUSHED.set()


def say(message: str) -> None:
    """Print one line for a person, on stderr."""
    if not HUSHED.is_set():
        _print(message)


def warn(message: str) -> None:
    """Print one warning line, on stderr."""
    _print(f"warning: {message}")


def _print(message: str) -> None:
    STDERR.print(message, markup=False)


def show(drawing: RenderableType) -> None:
    """Print a table or a coloured line for a person, on stderr; without colours where that is no terminal."""
    STDERR.print(drawing)


def print_json(summary: object) -> None:
    """Print one machine-readable summary, on stdout."""
    click.echo(json.dumps(summary, indent=2))  # ASCII alone, whatever the encoding of stdout


def print_json_line(record: object) -> None:
    """Print one of several machine-readable records, on a line of its own on stdout."""
    click.echo(json.dumps(record))


def print_list(title: str, entries: Mapping[str, str]) -> None:
    """Print what was asked for as a list of names and what they mean, on stdout."""
    formatter = click.HelpFormatter(max_width=120)
    with formatter.section(title):
        formatter.write_dl(list(entries.items()))
    click.echo(formatter.getvalue().rstrip())


def main_of(command: click.Command, interrupted: str = INTERRUPTED) -> Callable[[], None]:
    """Entry point of `command`: exit status 0, 1, 2 or 130 (DESIGN 3); the command returns its own status."""

    def main() -> None:
        try:
            status = command.main(standalone_mode=False)
        except click.exceptions.Abort:
            say(interrupted)
            status = 130
        except click.ClickException as error:
            error.show()
            status = 2
        except (MfcdError, OSError) as error:
            _print(f"error: {error}")
            if "--json" in sys.argv:
                print_json({"error": str(error), "exit_status": 2})
            status = 2
        sys.exit(status if isinstance(status, int) else 0)

    return main


@contextmanager
def progress(description: str, total: float, unit: str) -> Iterator[Advance]:
    """Show progress with rate and time left: a live bar on a terminal, a plain line every ten seconds in a log."""
    with _bar(description, total, unit) if STDERR.is_terminal else _lines(description, total, unit) as advance:
        yield advance


@contextmanager
def _bar(description: str, total: float, unit: str) -> Iterator[Advance]:
    from rich.progress import (  # noqa: PLC0415, for a terminal alone
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=STDERR) as bar:
        task = bar.add_task(description, total=total, rate="", note="")
        start, done = time.monotonic(), 0.0

        def advance(amount: float = 1, note: str = "") -> None:
            nonlocal done
            done += amount
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=amount, rate=f"{rate:.1f} {unit}/s", note=note)

        yield advance


@contextmanager
def _lines(description: str, total: float, unit: str) -> Iterator[Advance]:
    start = last = time.monotonic()
    done = 0.0

    def advance(amount: float = 1, note: str = "") -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - last >= LOG_EVERY_SECONDS or done > total - 1e-6:
            last = now
            rate = done / max(now - start, 1e-9)
            left = max(total - done, 0) / max(rate, 1e-9)
            say(f"{description} {done:g}/{total:g} {unit}, {rate:.1f}/s, {left:.0f} s left {note}".rstrip())

    yield advance
