"""What an evaluation leaves in a run folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mfcd_core.atomic import replacing
from mfcd_train.runlog import EVALUATION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def write_evaluation(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result of `evaluate` as evaluation.json."""
    with replacing(folder / EVALUATION) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """The result of the last evaluation of a run, or None where there is none that can be read."""
    try:
        result = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None
