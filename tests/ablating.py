"""Ablations in tests: the command in this process, on networks and stores that are tiny."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiny_runs import TEACHER, run_command

from mfcd_train.ablation import TITLES
from mfcd_train.evaluate import main

if TYPE_CHECKING:
    from pathlib import Path

    from tiny_runs import Outcome

KEYS = {
    **{f"data.{key}": value for key, value in TEACHER["data"].items() if key != "clip_format"},
    **{f"optim.{key}": value for key, value in TEACHER["optim"].items()},
    "optim.epochs": 1, "run.tensorboard": "false", "run.report": "false", "model.width": 0.1,
}  # fmt: skip
TINY = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]
OPTIONS = ("--recipes", "demo", "--device", "cpu", "--clips", 2, *TINY)
ROWS = list(TITLES)


def ablate(store: Path, out: Path, *arguments: object) -> Outcome:
    return run_command(main, "ablate", store, "--out", out, *OPTIONS, *arguments)


def folder_of(out: Path, row: str, seed: int = 0) -> Path:
    return out / "runs" / "split-only" / f"seed-{seed}" / row
