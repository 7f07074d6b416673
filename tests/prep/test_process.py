from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mfcd_core.errors import DeadlineError, KilledError
from mfcd_prep.process import NO_DEADLINE, Deadline, run_process

ENDLESS = ("-v", "quiet", "-re", "-f", "lavfi", "-i", "testsrc2=s=64x48", "-f", "null", "-")


def is_running(pid: int) -> bool:
    stat = Path("/proc", str(pid), "stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] not in "ZX"


def survives(pid: int) -> bool:
    """A killed process takes a moment to die, on a busy machine a long one."""
    end = time.monotonic() + 30
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return is_running(pid)


def wait_for(file: Path) -> str:
    for _ in range(600):
        if file.exists() and file.read_text().endswith("\n"):
            return file.read_text().strip()
        time.sleep(0.05)
    pytest.fail(f"{file} did not appear")


def test_every_line_and_the_exit_status_come_back() -> None:
    lines: list[str] = []
    status = run_process(["sh", "-c", "echo one >&2; echo two >&2; exit 3"], NO_DEADLINE, lines.append)
    assert (lines, status) == (["one", "two"], 3)


def test_a_log_of_any_size_blocks_nobody() -> None:
    num_bytes = 0

    def count(line: str) -> None:
        nonlocal num_bytes
        num_bytes += len(line)

    assert run_process(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x >&2"], NO_DEADLINE, count) == 0
    assert num_bytes == 3_000_000


def test_a_crash_of_its_own_is_minus_the_signal() -> None:
    assert run_process(["sh", "-c", "kill -SEGV $$"], NO_DEADLINE, print) == -signal.SIGSEGV


@pytest.mark.parametrize("name", ["KILL", "TERM", "HUP"])
def test_a_process_that_was_killed_from_outside_is_named(name: str) -> None:
    with pytest.raises(KilledError, match=f"SIG{name}: run again"):
        run_process(["sh", "-c", f"kill -{name} $$"], NO_DEADLINE, print)


def test_the_whole_group_dies_at_the_deadline(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/pid; sleep 600"
    with pytest.raises(DeadlineError, match=r"longer than 0\.5 s and was stopped: raise --timeout"):
        run_process(["sh", "-c", script], Deadline.after(0.5), print)
    assert not survives(int(wait_for(tmp_path / "pid")))


def test_nothing_is_started_after_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(DeadlineError):
        run_process(["touch", f"{tmp_path}/started"], Deadline.after(-1), print)
    assert not (tmp_path / "started").exists()


def test_the_group_dies_with_an_exception_of_ours(tmp_path: Path) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    script = f"echo $$ > {tmp_path}/pid; echo line >&2; exec sleep 600"
    with pytest.raises(KeyboardInterrupt):
        run_process(["sh", "-c", script], NO_DEADLINE, interrupted)
    assert not survives(int(wait_for(tmp_path / "pid")))


PARENT = """
import sys
from mfcd_prep.ffmpeg import ffmpeg_binary
from mfcd_prep.process import NO_DEADLINE, run_process
pid_file, *arguments = sys.argv[1:]
run_process(["sh", "-c", 'echo $$ > "$0"; exec "$@"', pid_file, ffmpeg_binary(), *arguments], NO_DEADLINE, print)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv of util-linux")
def test_ffmpeg_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(pid_file), *ENDLESS])
    ffmpeg = int(wait_for(pid_file))
    assert is_running(ffmpeg)
    parent.kill()
    parent.wait()
    survived = survives(ffmpeg)
    if survived:
        os.kill(ffmpeg, signal.SIGKILL)
    assert not survived
