"""The list of what failed and why, for a person with a spreadsheet: one row a video."""

from __future__ import annotations

import csv
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from mfcd_core.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FAILURES_NAME = "failures.csv"


class Failure(NamedTuple):
    """A video that failed: the class of the problem, what happened, and the decoder's last line."""

    id: str
    problem: str
    reason: str
    last_line: str = ""


def write_failures(folder: Path, failures: Iterable[Failure]) -> None:
    """Write FOLDER/failures.csv; where nothing failed there is none."""
    rows = iter(failures)
    first = next(rows, None)
    if first is None:
        (folder / FAILURES_NAME).unlink(missing_ok=True)
        return
    with replacing(folder / FAILURES_NAME) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Failure._fields)
        writer.writerows(chain((first,), rows))
