"""Several small videos in one start of ffmpeg: the same bytes, and each video's own outcome as if it were alone."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain
from typing import TYPE_CHECKING

import imageio_ffmpeg
import pytest
from encoding import SMALL, left_over, outputs
from tiny_videos import cut_frames, grey_frames, write_video

from mfcd_core.catalog import Video
from mfcd_core.errors import MfcdError
from mfcd_prep import encode_groups
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_entry import Todo
from mfcd_prep.encode_groups import MAX_BYTES, MAX_VIDEOS, Groups
from mfcd_prep.ffmpeg import encode_together, ffmpeg_binary
from mfcd_prep.source import probe
from mfcd_prep.transcode import encode_command
from mfcd_prep.workers import IN_THIS_PROCESS, OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mfcd_prep.ffmpeg import EncodeCommand

REAL = imageio_ffmpeg.get_ffmpeg_exe()


def todos(sizes: Sequence[int], why: str = "new") -> Iterator[Todo]:
    return (Todo(Video(f"{n}", f"{n}.avi", None), why, None, size) for n, size in enumerate(sizes))


def lengths(groups: Groups) -> list[int]:
    return [len(group) for group in groups]


def test_groups_are_full_and_smaller_towards_the_end() -> None:
    found = lengths(Groups(todos([1] * 100), 100, OnThisMachine(2)))
    assert sum(found) == 100
    assert set(found[:20]) == {MAX_VIDEOS}
    assert sorted(found, reverse=True) == found
    assert set(found[-OnThisMachine(2).num_slots :]) == {1}


def test_every_video_is_drawn_once_in_order() -> None:
    sizes = [MAX_BYTES // (1 + n % 7) for n in range(50)]
    groups = list(Groups(todos(sizes), 50, IN_THIS_PROCESS))
    assert [todo.video.id for todo in chain(*groups)] == [str(n) for n in range(50)]
    assert all(len(group) == 1 or sum(todo.num_bytes for todo in group) <= MAX_BYTES for group in groups)


@pytest.mark.parametrize("why", ["not finished last time", "input changed", "more time allowed"])
def test_what_may_need_no_encoding_or_has_failed_before_comes_alone(why: str) -> None:
    assert set(lengths(Groups(todos([1] * 40, why), 40, IN_THIS_PROCESS))) == {1}


def test_where_groups_are_split_again_and_again_videos_come_alone() -> None:
    groups, num_wasted = Groups(todos([1] * 1000), 1000, IN_THIS_PROCESS), 0
    for group in groups:
        parts = groups.split(group)
        assert list(chain(*parts)) == list(group)
        num_wasted += len(group) if len(group) > 1 else 0
    assert 0 < num_wasted <= 1000 / 32 + MAX_VIDEOS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve good videos of several lengths, two of which need a frame repeated."""
    for number in range(12):
        frames = grey_frames(7) if number % 6 == 5 else cut_frames(12 + number)
        write_video(tmp_path / "s" / f"{number:02}.mkv", frames)
    return tmp_path / "s"


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a shell script in ffmpeg's place, where $n is the number of inputs; the numbers are kept."""
    script = tmp_path / "ffmpeg.sh"

    def does(body: str) -> None:
        count = f"""n=$(printf '%s\\n' "$@" | grep -c '^-i$'); echo $n >> {tmp_path}/starts"""
        script.write_text(f'#!/bin/bash\n[ $1 = -version ] || {{ {count}; {body}; }}\nexec "{REAL}" "$@"\n')
        script.chmod(0o755)

    does(":")
    monkeypatch.setenv("MFCD_FFMPEG", str(script))
    ffmpeg_binary.cache_clear()
    yield does
    monkeypatch.undo()
    ffmpeg_binary.cache_clear()


def starts(tmp_path: Path) -> list[int]:
    return [int(line) for line in (tmp_path / "starts").read_text().split()]


def encode_alone(source: Path, encoded: Path, timeout_seconds: float | None = None) -> dict[str, bytes]:
    """What comes of the videos where none shares a start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_groups, "MAX_VIDEOS", 1)
        encode_videos(source, encoded, SMALL, timeout_seconds=timeout_seconds)
    return outputs(encoded)


def test_a_group_makes_the_bytes_and_records_that_each_has_alone(
    source: Path, tmp_path: Path, fake_ffmpeg: Callable[[str], None]
) -> None:
    fake_ffmpeg(":")
    encode_videos(source, tmp_path / "e", SMALL)
    assert max(starts(tmp_path)) == MAX_VIDEOS
    assert sum(starts(tmp_path)) == 14, "no video was encoded twice, but for the two that lacked frames unannounced"
    (tmp_path / "starts").unlink()
    assert encode_alone(source, tmp_path / "alone") == outputs(tmp_path / "e")
    assert set(starts(tmp_path)) == {1}


def test_a_bad_video_in_a_group_ends_as_it_does_alone_and_the_good_ones_are_kept(
    source: Path, tmp_path: Path, fake_ffmpeg: Callable[[str], None]
) -> None:
    fake_ffmpeg(":")
    whole = write_video(tmp_path / "whole.avi", cut_frames(60), codec=("-c:v", "mpeg4", "-q:v", "2")).read_bytes()
    (source / "00b.avi").write_bytes(whole[: len(whole) // 2])
    (source / "01b.avi").write_bytes(whole[: len(whole) // 3] + bytes(3000) + whole[len(whole) // 3 + 3000 :])
    (source / "04b.mp4").write_text("no video")
    summary = encode_videos(source, tmp_path / "e", SMALL, workers=OnThisMachine(1))
    assert max(starts(tmp_path)) == MAX_VIDEOS
    assert (summary.num_encoded, [failure.id for failure in summary.failures]) == (14, ["04b"])
    assert dict(summary.damaged).keys() == {"00b", "01b"}
    assert encode_alone(source, tmp_path / "alone") == outputs(tmp_path / "e")
    assert (tmp_path / "e" / "failures.csv").read_bytes() == (tmp_path / "alone" / "failures.csv").read_bytes()


@pytest.mark.parametrize(
    "does",
    ["kill -9 $PPID; sleep 60", "kill -9 $$", "kill -SEGV $$", "exit 1", "exit 0"],
    ids=["a killed worker", "a killed ffmpeg", "a crash", "a failure", "nothing done"],
)
def test_what_ends_a_group_costs_its_videos_nothing(
    source: Path, tmp_path: Path, fake_ffmpeg: Callable[[str], None], does: str
) -> None:
    fake_ffmpeg(f"[ $n = 1 ] || {{ {does}; }}")
    summary = encode_videos(source, tmp_path / "e", SMALL, workers=OnThisMachine(1))
    assert max(starts(tmp_path)) > 1
    assert (summary.num_encoded, summary.failures) == (12, ())
    assert left_over(tmp_path / "e") == []
    fake_ffmpeg(":")
    assert encode_alone(source, tmp_path / "alone") == outputs(tmp_path / "e")


def test_a_video_that_hangs_in_a_group_is_the_only_one_to_time_out(
    source: Path, tmp_path: Path, fake_ffmpeg: Callable[[str], None]
) -> None:
    fake_ffmpeg('case "$*" in *01.mkv*) sleep 60 ;; esac')
    summary = encode_videos(source, tmp_path / "e", SMALL, timeout_seconds=5)
    assert starts(tmp_path)[0] == MAX_VIDEOS
    assert [(failure.id, failure.problem, failure.reason) for failure in summary.failures] == [
        ("01", "timeout", "took longer than 5 s and was stopped: raise --timeout")
    ]
    assert summary.num_encoded == 11


@pytest.fixture
def commands(source: Path, tmp_path: Path) -> list[EncodeCommand]:
    paths = sorted(source.iterdir())[:3]
    return [encode_command(path, probe(path), tmp_path / f"{path.stem}.mp4", SMALL) for path in paths]


def test_counts_of_a_group_are_each_videos_own(commands: list[EncodeCommand]) -> None:
    assert [(result.num_decoded, result.num_written) for result in encode_together(commands)] == [
        (12, 12),
        (13, 13),
        (14, 14),
    ]


@pytest.mark.parametrize("does", ["echo '[mpeg4 @ 0x1] [warning] odd' >&2", "echo '[mpeg4 @ 0x1] [error] odd' >&2"])
def test_a_group_with_a_complaint_does_not_count(
    commands: list[EncodeCommand], fake_ffmpeg: Callable[[str], None], does: str
) -> None:
    fake_ffmpeg(does)
    with pytest.raises(MfcdError, match=r"on several videos: .*odd"):
        encode_together(commands)


@pytest.mark.parametrize(("module", "left_out"), [("encode_cli", {"av"}), ("encode_worker", {"av", "numpy"})])
def test_nobody_imports_what_takes_long_before_it_is_needed(module: str, left_out: set[str]) -> None:
    script = f"import sys, mfcd_prep.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout.split()
    assert f"mfcd_prep.{module}" in loaded
    assert not left_out & set(loaded)
