"""The command `mfcd-prep doctor`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from mfcd_core.console import print_json, say, show
from mfcd_prep.doctor import FOLDER_CHECKS, MACHINE_CHECKS, examine
from mfcd_prep.options import json_option, printable
from mfcd_prep.verdict import STATUSES

if TYPE_CHECKING:
    from mfcd_prep.doctor import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
MARK_WIDTH = max(map(len, STATUSES))
NAME_WIDTH = max(map(len, (*MACHINE_CHECKS, *FOLDER_CHECKS)))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@json_option
def doctor(folder: Path, *, as_json: bool) -> int:
    """Check that this machine can do the work, with results in FOLDER.

    Every check tries the thing itself: it encodes a few frames and compares their motion vectors with what was drawn,
    compresses through HDF5, compiles a kernel, and writes, syncs and renames in FOLDER (removed again). A line that is
    not ok ends with the command to run or the variable to set. FOLDER need not exist; without it, the current folder.

    Exit status: 0 fine, warnings allowed; 1 something is a problem.
    """
    findings = []
    for finding in examine(folder):
        show(line_of(finding))
        findings.append(finding)
    counts = Counter(finding.verdict.status for finding in findings)
    exit_status = 1 if counts["problem"] else 0
    if as_json:
        print_json({"checks": [finding.to_dict() for finding in findings], "exit_status": exit_status})
    say(f"{len(findings)} checks: " + ", ".join(f"{counts[status]} {status}" for status in STATUSES))
    return exit_status


def line_of(finding: Finding) -> Text:
    """One line, its parts under those of the line before."""
    verdict = finding.verdict
    mark = (verdict.status.ljust(MARK_WIDTH), STYLES[verdict.status])
    remedy = f"; to mend it: {printable(verdict.remedy)}" if verdict.remedy else ""
    return Text.assemble(mark, "  ", finding.name.ljust(NAME_WIDTH), "  ", printable(verdict.found), remedy)
