"""What several commands of `mfcd-prep` share: options, and how they list videos."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mfcd_core.console import say

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LISTED = 20

jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=os.cpu_count,
    show_default="number of cores",
    help="Processes at once.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One machine-readable summary on stdout.")


def list_pairs(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Print `title: id: why` for each pair, up to a limit."""
    for video_id, why in pairs[:MAX_LISTED]:
        say(f"{title}: {printable(video_id)}: {printable(why)}")
    if len(pairs) > MAX_LISTED:
        say(f"{title}: {len(pairs) - MAX_LISTED} more, see the manifest")


def printable(text: str) -> str:
    """A name as it is, unless it holds what would move a terminal's cursor."""
    return text if text.isprintable() else repr(text)
