"""What several commands of `mfcd-prep` share: options, and how they list videos."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from mfcd_core.console import say
from mfcd_core.errors import UsageError
from mfcd_prep.part import Part
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mfcd_prep.workers import Workers

MAX_LISTED = 20

jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    show_default="cores that this process may use",
    help="Processes at once.",
)
dask_option = click.option(
    "--dask", "address", metavar="ADDRESS", help="Work on this Dask cluster instead, as tcp://host:8786."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done and why; change nothing.")
json_option = click.option("--json", "as_json", is_flag=True, help="One machine-readable summary on stdout.")


@dataclass(frozen=True)
class BatchOptions:
    """What `batch_options` gives a command, as `batch`. timeout_seconds: of a video; None: none."""

    jobs: int
    address: str | None
    part: Part
    timeout_seconds: float | None
    dry_run: bool
    as_json: bool

    def workers(self) -> Workers:
        """Where to work. Raises UsageError."""
        return workers_of(self.jobs, self.address)


def batch_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options of a command that works through many videos: where, which part, how long, and what it says."""

    @wraps(command)
    def gathered(*args: object, **options: Any) -> int:  # noqa: ANN401 - as click gives them
        batch = BatchOptions(**{field.name: options.pop(field.name) for field in fields(BatchOptions)})
        return command(*args, batch=batch, **options)

    options = (
        jobs_option,
        dask_option,
        click.option(
            "--part",
            type=_parse_part,
            metavar="I/N",
            default="1/1",
            help="Do the I-th of N disjoint parts, as in a Slurm array; the last to finish completes the result.",
        ),
        click.option(
            "--timeout",
            "timeout_seconds",
            type=click.FloatRange(min=0, min_open=True),
            help="Seconds a video may take; one that takes longer fails, and is tried again with more.",
        ),
        dry_run_option,
        json_option,
    )
    for option in reversed(options):
        gathered = option(gathered)
    return gathered


def parse_size(text: str) -> tuple[int, int]:
    """`WxH` as (width, height)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{text!r}: expected width x height in pixels, as 256x256")
    return int(width), int(height)


def _parse_part(text: str) -> Part:
    try:
        return Part.parse(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def workers_of(jobs: int, address: str | None) -> Workers:
    """Processes of this machine, or a Dask cluster where there is an address. Raises UsageError."""
    if address is None:
        return OnThisMachine(jobs)
    from mfcd_prep.dask_workers import OnDask  # noqa: PLC0415, an optional dependency

    return OnDask.connected(address)


def list_pairs(title: str, pairs: Sequence[tuple[str, str]], full: str = "--json lists them") -> None:
    """Print `title: id: why` for each pair, up to a limit; `full` says where the others are."""
    for video_id, why in pairs[:MAX_LISTED]:
        say(f"{title}: {printable(video_id)}: {printable(why)}")
    if len(pairs) > MAX_LISTED:
        say(f"{title}: {len(pairs) - MAX_LISTED} more: {full}")


def say_counts(counts: Mapping[str, int]) -> None:
    """A table of outcomes: a number and what it counts a line; zeros are left out."""
    for what, number in counts.items():
        if number:
            say(f"{number:8d} {printable(what)}")


def printable(text: str) -> str:
    """A name as it is, unless it holds what would move a terminal's cursor."""
    return text if text.isprintable() else repr(text)
