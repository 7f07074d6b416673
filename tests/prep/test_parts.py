"""One batch shared by runs that do not speak to each other."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from encoding import SMALL, outputs, run_command
from stores import files_of
from tiny_videos import cut_frames, write_video

from mfcd_core.atomic import name_process
from mfcd_core.store import Store
from mfcd_prep.encode import encode_videos, plan_videos
from mfcd_prep.extract import ExtractOptions, extract_videos, plan_extract
from mfcd_prep.manifest import MANIFEST_NAME, read_manifest
from mfcd_prep.part import Part

if TYPE_CHECKING:
    from pathlib import Path

ONE_EACH = ExtractOptions(shard_gops=1)
NO_PROCESS = 2**22 + 1
MFCD_PREP = (sys.executable, "-c", "from mfcd_prep.cli import main; main()")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine videos, and one that is none."""
    folder = tmp_path_factory.mktemp("parts") / "source"
    for number in range(9):
        write_video(folder / "ab"[number % 2] / f"{number}.mp4", cut_frames(13 + number))
    (folder / "a" / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def encoded(source: Path) -> Path:
    encode_videos(source, source.with_name("encoded"), SMALL)
    return source.with_name("encoded")


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_the_last_part_of_encode_whichever_it_is_writes_the_manifest(
    source: Path, encoded: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    for index in order[:-1]:
        summary = encode_videos(source, tmp_path / "e", SMALL, part=Part(index, 3))
        assert summary.num_pending > 0
        assert not (tmp_path / "e" / MANIFEST_NAME).exists()
    summary = encode_videos(source, tmp_path / "e", SMALL, part=Part(order[-1], 3))
    assert (summary.num_pending, summary.num_encoded + summary.num_unchanged, len(summary.failures)) == (0, 9, 1)
    assert outputs(tmp_path / "e") == outputs(encoded)


def test_parts_of_encode_are_disjoint_and_complete(source: Path, tmp_path: Path) -> None:
    parts = [
        {todo.video.id for todo in plan_videos(source, tmp_path / "e", SMALL, part=Part(index, 4)).iter_todo()}
        for index in (1, 2, 3, 4)
    ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 10


def test_a_part_has_the_videos_it_had_when_others_come(source: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for path in sorted(source.rglob("*.mp4"))[::2]:
        (few / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (few / path.relative_to(source)).write_bytes(b"")
    for index in (1, 2, 3):
        before, after = (
            {todo.video.id for todo in plan_videos(folder, tmp_path / "e", SMALL, part=Part(index, 3)).iter_todo()}
            for folder in (few, source)
        )
        assert before <= after


def test_a_video_that_another_part_lost_is_listed_and_not_waited_for(source: Path, tmp_path: Path) -> None:
    """A run that was at fault is a result too, until the next one."""
    text = source / "a" / "text.mp4"
    part = next(i for i in (1, 2) if "a/text" in part_ids(source, tmp_path, Part(i, 2)))
    content = text.read_bytes()
    text.unlink()
    text.mkdir()  # gone between the look at the folder and its turn, as far as the worker can see
    text.rmdir()
    text.write_bytes(content)
    encode_videos(source, tmp_path / "e", SMALL, part=Part(part, 2))
    summary = encode_videos(source, tmp_path / "e", SMALL, part=Part(3 - part, 2))
    assert [failure.id for failure in summary.failures] == ["a/text"]
    assert {video.id: video.status for video in read_manifest(tmp_path / "e").videos}["a/text"] == "failed"


def part_ids(source: Path, tmp_path: Path, part: Part) -> set[str]:
    return {todo.video.id for todo in plan_videos(source, tmp_path / "none", SMALL, part=part).iter_todo()}


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 3, 1)])
def test_the_last_part_of_extract_places_the_shards(encoded: Path, tmp_path: Path, order: tuple[int, ...]) -> None:
    extract_videos(encoded, tmp_path / "whole", ONE_EACH)
    for index in order[:-1]:
        summary = extract_videos(encoded, tmp_path / "store", ONE_EACH, part=Part(index, 3))
        assert summary.num_shards_pending > 0
        assert not list((tmp_path / "store").glob("*.h5"))
    assert extract_videos(encoded, tmp_path / "store", ONE_EACH, part=Part(order[-1], 3)).num_shards_pending == 0
    assert files_of(tmp_path / "store") == files_of(tmp_path / "whole")


def test_a_store_stays_readable_until_all_parts_of_the_next_are_there(encoded: Path, tmp_path: Path) -> None:
    extract_videos(encoded, tmp_path / "store", ONE_EACH)
    checksum = Store(tmp_path / "store").checksum
    other = ExtractOptions(shard_gops=1, level=5)
    extract_videos(encoded, tmp_path / "store", other, part=Part(1, 2))
    assert Store(tmp_path / "store").checksum == checksum
    extract_videos(encoded, tmp_path / "store", other, part=Part(2, 2))
    assert Store(tmp_path / "store").settings.level == 5
    assert plan_extract(encoded, tmp_path / "store", other).todo == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["encode", "extract"])
def test_parts_that_overlap_by_mistake_do_no_harm(source: Path, encoded: Path, tmp_path: Path, command: str) -> None:
    size = ("--size", "64x48") if command == "encode" else ("--shard-gops", "1")
    given = source if command == "encode" else encoded
    jobs = [
        subprocess.Popen(
            (*MFCD_PREP, command, given, tmp_path / "out", *size, "--jobs", "2", "--part", part),
            stderr=subprocess.PIPE,
        )
        for part in ("1/2", "1/2", "2/2", "1/1")
    ]
    statuses = {job.communicate()[1]: job.returncode for job in jobs}
    assert set(statuses.values()) <= {0, 1}, statuses
    assert run_command(command, given, tmp_path / "out", *size) in (0, 1)  # whoever was last, nothing is left open
    if command == "encode":
        assert outputs(tmp_path / "out") == outputs(encoded)
    else:
        extract_videos(encoded, tmp_path / "whole", ONE_EACH)
        assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(("process", "is_left"), [(os.getppid(), True), (NO_PROCESS, False)])
def test_a_shard_that_waits_for_another_run_is_left_to_it(
    encoded: Path, tmp_path: Path, process: int, *, is_left: bool
) -> None:
    extract_videos(encoded, tmp_path / "store", ONE_EACH)
    other_run = tmp_path / "store" / ".mfcd" / "tmp" / name_process(process)
    other_run.mkdir()
    waiting = tmp_path / "store" / ".mfcd" / "shards" / "of-another-run.h5"
    waiting.parent.mkdir()
    waiting.write_bytes(b"shard")
    extract_videos(encoded, tmp_path / "store", ONE_EACH)
    assert waiting.exists() == is_left


def test_parts_that_end_at_once_place_their_shards_in_turn(encoded: Path, tmp_path: Path) -> None:
    extract_videos(encoded, tmp_path / "whole", ONE_EACH)
    extract_videos(encoded, tmp_path / "store", ONE_EACH, part=Part(1, 2))
    with (tmp_path / "store" / ".mfcd" / "extract" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        last = subprocess.Popen(
            (*MFCD_PREP, "extract", encoded, tmp_path / "store", "--shard-gops", "1", "--part", "2/2")
        )
        while len(list((tmp_path / "store" / ".mfcd" / "shards").iterdir())) < 9:
            time.sleep(0.05)
        with pytest.raises(subprocess.TimeoutExpired):
            last.wait(1)
        assert not list((tmp_path / "store").glob("*.h5"))
    assert last.wait() == 0
    assert files_of(tmp_path / "store") == files_of(tmp_path / "whole")


def test_the_command_says_which_part_is_done(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statuses = [run_command("encode", source, tmp_path / "e", "--size", "64x48", "--part", f"{i}/2") for i in (1, 2)]
    said = capsys.readouterr().err
    assert sorted(statuses) == [0, 1] or statuses == [1, 1]
    assert "part 1/2 is done; " in said
    assert "videos are left to other parts: the last one writes the manifest" in said
    assert f"what failed and why: {tmp_path / 'e' / 'failures.csv'}" in said
    assert run_command("encode", source, tmp_path / "e", "--part", "3/2") == 2


def test_parts_and_whole_runs_share_their_records(source: Path, encoded: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "e", SMALL, part=Part(1, 2))
    summary = encode_videos(source, tmp_path / "e", SMALL)
    assert 0 < summary.num_unchanged < 9
    assert outputs(tmp_path / "e") == outputs(encoded)
