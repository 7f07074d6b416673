"""Files appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mfcd_core.atomic import PART_SUFFIX, publish, replacing


class InterruptedByTestError(Exception):
    pass


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    with replacing(path) as part:
        part.write_bytes(b"whole")
        assert part.parent == path.parent
        assert part.name.endswith(PART_SUFFIX)
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as part:
            part.write_bytes(b"half of the n")
            raise InterruptedByTestError

    with pytest.raises(InterruptedByTestError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    script = (
        "import os, signal, sys; from pathlib import Path; from mfcd_core.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (left_over,) = set(tmp_path.iterdir()) - {path}
    assert left_over.name.startswith(".")
    assert left_over.name.endswith(PART_SUFFIX)


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_bytes_and_name_are_durable_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file before the rename, its folder after it: else a power cut leaves an empty file under the final name."""
    part, path = tmp_path / "part", tmp_path / "file.bin"
    part.write_bytes(b"whole")
    events: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        events.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    publish(part, path)
    assert events == ["fsync part", "rename", f"fsync {tmp_path.name}"]
    assert path.read_bytes() == b"whole"


def test_two_processes_of_one_number_are_not_in_each_others_way(tmp_path: Path) -> None:
    """As the first processes of two containers."""
    path = tmp_path / "file.bin"
    with replacing(path) as first, replacing(path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
