"""What is at fault is the machine: full disks, read-only folders, lost mounts, ffmpeg shot down, hanging code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from encoding import SMALL, outputs
from tiny_videos import cut_frames, write_video

from mfcd_prep import workers as workers_module
from mfcd_prep.encode import encode_videos
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.ffmpeg import ffmpeg_binary
from mfcd_prep.jobs import Done, Lost, run_tasks
from mfcd_prep.workers import OnThisMachine, hard_limit

if TYPE_CHECKING:
    from mfcd_prep.jobs import Outcome

PROGRAM = f"{sys.executable} -c 'from mfcd_prep.cli import main; main()'"
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos that compress badly."""
    folder = tmp_path_factory.mktemp("faults") / "s"
    for number in range(12):
        write_video(folder / "run" / f"{number:02}.mp4", cut_frames(24, every=1, height=128, width=128))
    return folder


def run_script(script: str) -> list[str]:
    """Run a shell script that may mount file systems of its own; returns its standard output and error by lines."""
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts in a name space of one's own are not permitted here")
    done = subprocess.run([*OWN_MOUNTS, "sh", "-c", script], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.slow
def test_encode_goes_on_when_a_full_disk_has_room_again(source: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    said = run_script(f"""
        cd {tmp_path} && mount -t tmpfs -o size=200k none disk
        {PROGRAM} encode {source} disk/e --size 128x128 --jobs 2; echo status $?
        ls disk/e/manifest.jsonl
        mount -o remount,size=100m disk
        {PROGRAM} encode {source} disk/e --size 128x128 --jobs 2; echo status $?
        cp -r disk/e kept""")
    assert [line for line in said if line.startswith("status")] == ["status 2", "status 0"]
    (error,) = (line for line in said if line.startswith("error:"))
    assert "(No space left on device): free some space, then run again" in error
    assert any("manifest.jsonl" in line and "No such file" in line for line in said)
    assert not any("Traceback" in line for line in said)
    encode_videos(source, tmp_path / "undisturbed", type(SMALL)(size=(128, 128)))
    assert outputs(tmp_path / "kept") == outputs(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "shard_gops"), [("1200k", 2), ("1200k", 24)])  # full after some shards, or within one
def test_extract_goes_on_when_a_full_disk_has_room_again(
    source: Path, tmp_path: Path, size: str, shard_gops: int
) -> None:
    encode_videos(source, tmp_path / "e", type(SMALL)(size=(128, 128)))
    (tmp_path / "disk").mkdir()
    said = run_script(f"""
        cd {tmp_path} && mount -t tmpfs -o size={size} none disk
        {PROGRAM} extract e disk/store --shard-gops {shard_gops} --jobs 2; echo status $?
        mount -o remount,size=100m disk
        {PROGRAM} extract e disk/store --shard-gops {shard_gops} --jobs 2; echo status $?
        cp -r disk/store kept""")
    assert [line for line in said if line.startswith("status")] == ["status 2", "status 0"]
    assert not any(line.startswith("failed:") for line in said), "the videos are not to blame"
    (error,) = (line for line in said if line.startswith("error:"))
    assert "No space left on device" in error
    assert "free some space, then run again" in error
    extract_videos(tmp_path / "e", tmp_path / "undisturbed", ExtractOptions(shard_gops=shard_gops))
    names = {path.name for path in (tmp_path / "undisturbed").iterdir() if path.is_file()}
    assert names == {path.name for path in (tmp_path / "kept").iterdir() if path.is_file()}
    for name in names:
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


WRITE_SHARDS = """
import subprocess
from pathlib import Path
import numpy as np
from mfcd_core.store.settings import StoreSettings
from synthetic import random_gop, write_shard

settings = StoreSettings(32, 16, gop_size=4)
videos = {"walk/a": [random_gop(settings, np.random.default_rng(0)) for _ in range(3)]}
subprocess.run(["mount", "-o", "remount,size=1m", "."], check=True)
write_shard(Path("whole.h5"), settings, videos)
whole = Path("whole.h5").read_bytes()
Path("whole.h5").unlink()
for limit in range(4096, len(whole), 4096):
    subprocess.run(["mount", "-o", f"remount,size={limit}", "."], check=True)
    path = Path(f"{limit}.h5")
    try:
        write_shard(path, settings, videos)
        print("whole" if path.read_bytes() == whole else "damaged", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
    path.unlink(missing_ok=True)
print("end")
"""


@pytest.mark.slow
def test_a_disk_that_is_full_within_a_shard_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Wherever it stops: HDF5 itself says something else as it closes such a file, or crashes."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "write.py").write_text(WRITE_SHARDS)
    said = run_script(f"""
        cd {tmp_path}/disk && mount -t tmpfs -o size=1m none . && cd {tmp_path}/disk
        PYTHONPATH={os.pathsep.join(sys.path)} {sys.executable} ../write.py""")
    full, whole = "No space left on device", "whole"  # empty blocks of the tree take no room
    num_full, num_whole = said.count(full), said.count(whole)
    assert num_full >= 5
    assert said == [full] * num_full + [whole] * num_whole + ["end"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["encode", "extract"])
def test_a_read_only_output_is_one_line(source: Path, tmp_path: Path, command: str) -> None:
    if command == "extract":
        source = encode_videos(source, tmp_path / "e", SMALL) and tmp_path / "e"
    (tmp_path / "disk").mkdir()
    said = run_script(f"""
        cd {tmp_path} && mount -t tmpfs none disk && mkdir disk/out && mount -o remount,ro disk
        {PROGRAM} {command} {source} disk/out; echo status $?""")
    assert [line for line in said if line.startswith("status")] == ["status 2"]
    (error,) = (line for line in said if line.startswith("error:"))
    assert "Read-only file system" in error
    assert not any("Traceback" in line for line in said)


@pytest.mark.slow
def test_a_source_that_vanishes_stops_the_run_and_the_next_one_ends_it(source: Path, tmp_path: Path) -> None:
    mount = shutil.copytree(source, tmp_path / "mount")
    command = [sys.executable, "-c", "from mfcd_prep.cli import main; main()", "encode", mount, tmp_path / "e"]
    with subprocess.Popen([*command, "--jobs", "1"], stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("e/run/*.mp4")):
            time.sleep(0.005)
        mount.rename(tmp_path / "away")
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait() == 2
    assert f"error: {mount} has vanished (a lost mount?): bring it back, then run the same command" in said
    (tmp_path / "away").rename(mount)
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert len(list(tmp_path.glob("e/run/*.mp4"))) == 12


def test_an_ffmpeg_that_is_shot_once_is_tried_again_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ffmpeg_binary()
    fake = tmp_path / "ffmpeg.sh"
    shot = f"[ $1 = -version ] || [ -e {tmp_path}/shot ] || {{ touch {tmp_path}/shot; kill -9 $$; }}"
    fake.write_text(f'#!/bin/sh\n{shot}\nexec "{real}" "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("MFCD_FFMPEG", str(fake))
    ffmpeg_binary.cache_clear()
    try:
        summary = encode_videos(source, tmp_path / "e", SMALL, limit=3)
    finally:
        ffmpeg_binary.cache_clear()
    assert (tmp_path / "shot").exists()
    assert (summary.num_encoded, summary.failures) == (3, ())


def test_code_that_hangs_beyond_its_limit_is_ended() -> None:
    """As a decoder in an endless loop: no exception gets in."""

    def worker(task: int) -> int:
        workers_module.GRACE_SECONDS = 0.1
        with hard_limit(0.2):
            if task == 1:
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
                time.sleep(3600)
        return task

    outcomes: dict[int, Outcome[int]] = {}
    run_tasks(range(3), worker, OnThisMachine(2), outcomes.__setitem__)
    assert outcomes.pop(1) == Lost(
        "hung beyond --timeout twice, in code that cannot be interrupted: raise --timeout", "timeout"
    )
    assert outcomes == {0: Done(0), 2: Done(2)}


def test_there_is_no_hard_limit_in_the_process_of_the_user() -> None:
    with hard_limit(0.0):
        assert os.getpid()


def processes_of_session(session: int) -> list[str]:
    """Names of what is running in a session; what has ended but was not waited for is not."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            state, _, _, of_session = rest.split()[:4]
            found += [name] if int(of_session) == session and state != "Z" else []
    return found


def test_workers_end_with_a_run_that_was_killed_while_they_began() -> None:
    script = (
        "import os, signal\n"
        "from mfcd_prep.workers import OnThisMachine\n"
        "with OnThisMachine(2).pool() as pool:\n"
        "    pool.submit(print)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], start_new_session=True) as killed:
        killed.wait()
    end = time.monotonic() + 60
    while (left := processes_of_session(killed.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []
