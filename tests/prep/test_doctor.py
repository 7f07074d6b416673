"""mfcd-prep doctor: what is wrong is named, comes with what to do, and hides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcd_prep import doctor
from mfcd_prep.doctor import FOLDER_CHECKS, MACHINE_CHECKS, examine
from mfcd_prep.doctor_cli import line_of
from mfcd_prep.verdict import STATUSES, Verdict, ok

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def test_every_check_passes_or_says_what_to_do(tmp_path: Path) -> None:
    findings = list(examine(tmp_path))
    assert [finding.name for finding in findings] == [*MACHINE_CHECKS, *FOLDER_CHECKS]
    for finding in findings:
        assert finding.verdict.status in STATUSES
        assert finding.verdict.found
        assert bool(finding.verdict.remedy) == (finding.verdict.status != "ok")
    assert list(tmp_path.iterdir()) == []
    works = {finding.name: finding.verdict.status for finding in findings}
    for name in ("ffmpeg", "motion vectors", "HDF5", "zstandard", "durable write"):
        assert works[name] == "ok", name


def test_lines_are_aligned_and_end_with_the_remedy(
    tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_command("doctor", tmp_path / "file") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    *lines, summary = shown.err.splitlines()
    assert len(lines) == len(MACHINE_CHECKS) + len(FOLDER_CHECKS)
    column = lines[0].index("python")
    assert all(line[column - 1] == " " != line[column] for line in lines)
    (line,) = [line for line in lines if line[column:].startswith("folder ")]
    assert line.startswith("problem")
    assert line.endswith("file is a file, expected a folder; to mend it: name another folder, or move the file away")
    assert summary.startswith(f"{len(lines)} checks: ")


def test_only_a_problem_fails_the_command(monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., int]) -> None:
    monkeypatch.setattr(doctor, "MACHINE_CHECKS", {"python": lambda: Verdict("warning", "old", "update")})
    monkeypatch.setattr(doctor, "FOLDER_CHECKS", {})
    assert run_command("doctor") == 0
    monkeypatch.setattr(doctor, "MACHINE_CHECKS", {"python": lambda: 1 / 0, "PyAV": lambda: ok("well")})
    assert run_command("doctor") == 1


def test_a_check_that_breaks_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "MACHINE_CHECKS", {"python": lambda: 1 / 0, "PyAV": lambda: ok("well")})
    broken, well, *_ = examine(tmp_path)
    assert broken.verdict.status == "problem"
    assert broken.verdict.found == "ZeroDivisionError: division by zero"
    assert well.verdict == ok("well")


def test_names_from_outside_do_not_move_the_cursor() -> None:
    assert "\x1b" not in line_of(doctor.Finding("folder", ok("\x1b[2J"))).plain
