"""Random SIGKILLs over a whole run, of the driver, of workers, of ffmpeg; then the same command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from encoding import left_over, outputs
from killing import kill_often
from stores import files_of
from tiny_videos import cut_frames, write_video

from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.extract import ExtractOptions, extract_videos, plan_extract
from mfcd_prep.manifest import read_manifest
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from pathlib import Path

NUM_VIDEOS = 400
SMALL = EncodeSettings(size=(32, 32))
MFCD_PREP = (sys.executable, "-c", "from mfcd_prep.cli import main; main()")


def recorded(output: Path, command: str) -> list[str]:
    """Ids of the results in the journals; those of a run at fault are none."""
    paths = (output / ".mfcd" / command).glob("*.jsonl")
    lines = [line for path in paths for line in path.read_bytes().splitlines()]
    records = [json.loads(line) for line in lines if line.endswith(b"}")]
    return [record["id"] for record in records if not record["retry"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_kills_change_nothing_of_the_videos(tmp_path: Path) -> None:
    source, encoded = tmp_path / "s", tmp_path / "e"
    for number in range(NUM_VIDEOS):
        write_video(source / "run" / f"{number:03}.mp4", cut_frames(12 + number % 13, height=32, width=32))
    (source / "run" / "text.mp4").write_text("no video")
    encode_videos(source, tmp_path / "undisturbed", SMALL, workers=OnThisMachine(2))
    command = (*MFCD_PREP, "encode", source, encoded, "--size", "32x32", "--jobs", "2")
    kill_often(command, 50, lambda: len(recorded(encoded, "encode")), NUM_VIDEOS, seed=5)
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 1  # of the text
    assert outputs(encoded) == outputs(tmp_path / "undisturbed")
    assert left_over(encoded) == []
    assert list((encoded / ".mfcd" / "tmp").iterdir()) == []
    times = Counter(recorded(encoded, "encode"))
    assert set(times) == {video.id for video in read_manifest(encoded).videos}
    assert set(times.values()) == {1}, "done twice"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thirty_kills_change_nothing_of_the_store(tmp_path: Path) -> None:
    """Shards of one video, one of which fails; what was recorded is not made twice."""
    for kind in range(4):
        write_video(tmp_path / "s" / f"{kind}.mp4", cut_frames(12 + 12 * kind, every=5 + kind, height=32, width=32))
    encode_videos(tmp_path / "s", tmp_path / "few", SMALL)
    encoded, store = tmp_path / "e" / "run", tmp_path / "store"
    encoded.mkdir(parents=True)
    for number in range(NUM_VIDEOS):
        shutil.copy(tmp_path / "few" / f"{number % 4}.mp4", encoded / f"{number:03}.mp4")
    damaged = encoded / "100.mp4"
    damaged.write_bytes(damaged.read_bytes().replace(b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb7"))
    one_each = ExtractOptions(shard_gops=1)
    plan = plan_extract(tmp_path / "e", store, one_each)
    assert len(plan.tasks) == NUM_VIDEOS
    extract_videos(tmp_path / "e", tmp_path / "undisturbed", one_each)
    command = (*MFCD_PREP, "extract", tmp_path / "e", store, "--shard-gops", "1", "--jobs", "2")
    kill_often(command, 30, lambda: len(recorded(store, "extract")), NUM_VIDEOS, seed=6)
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 1  # of the damaged one
    assert files_of(store) == files_of(tmp_path / "undisturbed")
    assert {path.name for path in (store / ".mfcd").iterdir()} == {"extract", "tmp"}
    assert list((store / ".mfcd" / "tmp").iterdir()) == []
    times = Counter(recorded(store, "extract"))
    assert set(times) == {task.key for task in plan.tasks}
    assert set(times.values()) == {1}, "done twice"
