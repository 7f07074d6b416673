"""The main job once, small: sample videos to an evaluated student, through the commands of the README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SMALL = ["--set", "optim.epochs=2", "--set", "run.num_threads=1", "--device", "cpu"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / str(arguments[0])), *map(str, arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos, encoded, store, teacher, student and report.html, made by the commands."""
    out = tmp_path_factory.mktemp("demo")
    run("mfcd-prep", "sample", out / "videos", "--videos-per-class", "3", "--frames", "30", "--jobs", "2")
    run("mfcd-prep", "encode", out / "videos", out / "encoded", "--size", "80x80", "--jobs", "2")
    run("mfcd-prep", "extract", out / "encoded", out / "store", "--jobs", "2")
    run("mfcd-train", out / "store", "--recipe", "demo-teacher", "--out", out / "teacher", *SMALL)
    run("mfcd-eval", out / "teacher", out / "store", "--clips", "2", "--device", "cpu")
    student = ("--recipe", "demo-student", "--teacher", out / "teacher", "--out", out / "student")
    run("mfcd-train", out / "store", *student, *SMALL)
    run("mfcd-eval", out / "student", out / "store", "--clips", "2", "--device", "cpu")
    run("mfcd-eval", "report", out / "store", out / "teacher", out / "student", "--out", out / "report.html")
    return out
