"""Random SIGKILLs over a whole run, of the driver, of workers, of ffmpeg; then the same command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from encoding import left_over, outputs
from tiny_videos import cut_frames, write_video

from mfcd_prep.encode import encode_videos
from mfcd_prep.manifest import read_manifest
from mfcd_prep.transcode import EncodeSettings
from mfcd_prep.workers import OnThisMachine

NUM_KILLS = 50
NUM_VIDEOS = 240
MFCD_PREP = (sys.executable, "-c", "from mfcd_prep.cli import main; main()")


def recorded(encoded: Path) -> list[str]:
    """Ids of the results in the journals; those of a run at fault are none."""
    lines = [line for path in (encoded / ".mfcd" / "encode").glob("*.jsonl") for line in path.read_bytes().splitlines()]
    records = [json.loads(line) for line in lines if line.endswith(b"}")]
    return [record["id"] for record in records if not record["retry"]]


def children(process: int) -> list[int]:
    """All that descends from a process, by /proc."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, seen = [process], []
    while found:
        for child in parents.get(found.pop(), ()):
            found.append(child)
            seen.append(child)
    return seen


def kill_somebody(driver: subprocess.Popen[bytes], rng: random.Random) -> None:
    """Half of the time the driver, else one of its processes: workers, their helpers, ffmpeg."""
    below = children(driver.pid)
    victim = driver.pid if rng.random() < 0.5 or not below else rng.choice(below)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_change_nothing_of_the_result(tmp_path: Path) -> None:
    source, encoded = tmp_path / "s", tmp_path / "e"
    for number in range(NUM_VIDEOS):
        write_video(source / "run" / f"{number:03}.mp4", cut_frames(12 + number % 13, height=32, width=32))
    (source / "run" / "text.mp4").write_text("no video")
    settings = EncodeSettings(size=(32, 32))
    encode_videos(source, tmp_path / "undisturbed", settings, workers=OnThisMachine(2))
    rng = random.Random(5)  # noqa: S311, no secret
    command = (*MFCD_PREP, "encode", source, encoded, "--size", "32x32", "--jobs", "2")
    num_kills = 0
    while num_kills < NUM_KILLS:
        driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while driver.poll() is None and num_kills < NUM_KILLS:
            wanted = len(recorded(encoded)) + rng.randrange(4)
            while driver.poll() is None and len(recorded(encoded)) < wanted:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.1)
            kill_somebody(driver, rng)
            num_kills += 1
        if num_kills == NUM_KILLS:
            driver.kill()
        driver.wait()
        assert len(recorded(encoded)) < NUM_VIDEOS, "it ended before enough kills: more videos are needed"
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 1  # of the text
    assert outputs(encoded) == outputs(tmp_path / "undisturbed")
    assert left_over(encoded) == []
    assert list((encoded / ".mfcd" / "tmp").iterdir()) == []
    times = Counter(recorded(encoded))
    assert set(times) == {video.id for video in read_manifest(encoded).videos}
    assert set(times.values()) == {1}, "done twice"
