"""One self-contained page on evaluated runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mfcd_core.store import Store
    from mfcd_train.runlog import RunLog


def write_report(store: Store, runs: Sequence[RunLog], out: Path) -> None:
    """Write the page."""
