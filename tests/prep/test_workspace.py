"""The product's own corner of an output folder: what is removed, and what must stay."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mfcd_core.atomic import FOREIGN_SECONDS, name_process, this_process
from mfcd_prep.workspace import FileStat, file_stat, own_folder, scratch_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_the_stat_of_a_file_tells_it_from_another(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert file_stat(path) is None
    assert file_stat(tmp_path) is None  # a folder is no file
    path.write_bytes(b"abc")
    os.utime(path, ns=(5, 123_456_789))
    assert file_stat(path) == FileStat(3, 123_456_789)


def test_scratch_is_there_for_the_time_of_the_work(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "out") as scratch:
        (scratch / "part").write_text("unfinished")
        assert scratch.is_relative_to(own_folder(tmp_path / "out"))
    assert not scratch.exists()


def test_scratch_goes_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path) as scratch:
        raise KeyboardInterrupt
    assert not scratch.exists()


def left_by(tmp_path: Path, name: str) -> Path:
    folder = own_folder(tmp_path) / "tmp" / name
    folder.mkdir(parents=True)
    (folder / "part").write_text("unfinished")
    return folder


def test_what_a_dead_process_left_goes(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead = left_by(tmp_path, name_process(process.pid))
    before = left_by(tmp_path, this_process())  # of an older process with our number
    with scratch_folder(tmp_path) as scratch:
        assert not dead.exists()
        assert scratch == before
        assert not list(scratch.iterdir())


def test_what_a_living_process_has_stays(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        alive = left_by(tmp_path, name_process(process.pid))
        with scratch_folder(tmp_path):
            assert (alive / "part").exists()
        process.communicate(b"\n")


def test_what_was_left_by_another_process_of_the_same_number_goes(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        number_alone, _, start = name_process(process.pid).rpartition("_")
        left = left_by(tmp_path, f"{number_alone}_{int(start) - 1}")
        with scratch_folder(tmp_path):
            assert not left.exists()
        process.communicate(b"\n")


@pytest.mark.parametrize(("age_seconds", "stays"), [(60.0, True), (FOREIGN_SECONDS + 60, False)])
def test_of_another_machine_only_what_is_old_goes(tmp_path: Path, age_seconds: float, *, stays: bool) -> None:
    folder = left_by(tmp_path, "another-machine-1")
    then = folder.stat().st_mtime - age_seconds
    os.utime(folder, (then, then))
    with scratch_folder(tmp_path):
        assert folder.exists() is stays
