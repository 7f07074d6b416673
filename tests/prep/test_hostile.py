"""Videos that reach for other files, or for more memory and time than they are worth."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from encoding import SMALL, num_decoded, transcode_one
from hostile import gif_bomb, texts, watched, with_external_data, with_next_segment
from tiny_videos import grey_frames, run_tool, write_video

from mfcd_core.errors import DeadlineError
from mfcd_prep.ffmpeg import MAX_SOURCE_PIXELS, ffmpeg_binary

MPEG4 = ("-c:v", "mpeg4", "-q:v", "2", "-threads", "1")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return write_video(tmp_path / "secret.mp4", grey_frames(24), codec=MPEG4)


def test_the_watch_sees_a_file_being_opened(secret: Path) -> None:
    with watched(secret) as watch:
        assert not watch.was_opened()
        num_decoded(secret)
        assert watch.was_opened()


def test_without_a_limit_ffmpeg_would_follow_the_playlist(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "x.avi").write_text(texts(secret)["ffconcat"])
    with watched(secret) as watch:
        run_tool("-i", f"file:{tmp_path / 'x.avi'}", "-f", "null", "-")
        assert watch.was_opened()


@pytest.mark.parametrize("extension", ["avi", "mp4", "ts"])
@pytest.mark.parametrize("kind", texts(Path("x")))
def test_a_text_that_names_a_video_opens_none(tmp_path: Path, secret: Path, kind: str, extension: str) -> None:
    (tmp_path / f"x.{extension}").write_text(texts(secret)[kind])
    with watched(secret) as watch:
        record, _ = transcode_one(tmp_path / f"x.{extension}")
        assert not watch.was_opened()
    assert (record.status, record.problem) == ("failed", "not-a-video")


def test_samples_in_another_file_are_not_fetched(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(with_external_data(secret.read_bytes(), secret))
    drefs = ("-enable_drefs", "1", "-use_absolute_path", "1")
    with watched(secret) as watch:
        subprocess.run(
            [ffmpeg_binary(), "-v", "quiet", *drefs, "-i", tmp_path / "x.mp4", "-f", "null", "-"], check=False
        )
        assert watch.was_opened()  # the file does lead there
    with watched(secret) as watch:
        record, path = transcode_one(tmp_path / "x.mp4")
        assert not watch.was_opened()
    assert record.status == "failed"
    assert not path.exists()


def test_the_next_segment_of_a_matroska_file_is_not_fetched(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", grey_frames(24), codec=MPEG4)
    linked, name = with_next_segment(whole.read_bytes())
    (tmp_path / "x.mkv").write_bytes(linked)
    whole.rename(tmp_path / name)
    with watched(tmp_path / name) as watch:
        record, _ = transcode_one(tmp_path / "x.mkv")
        assert not watch.was_opened()
    assert (record.status, record.num_frames_decoded) == ("ok", 24)


@pytest.mark.parametrize(
    "name",
    [
        "-y.mp4",
        "-i.mp4",
        "pipe:0.mp4",
        "concat:a|b.mp4",
        "http:x.mp4",
        "x%03d.mp4",
        "x\n.mp4",
        "'\".mp4",
        "caf\u00e9.mp4",
        "cafe\u0301.mp4",
        "x\\,[a];b=.mp4",
        os.fsdecode(b"\xff\xfe.mp4"),
    ],
)
def test_a_name_is_nothing_but_a_name(tmp_path: Path, secret: Path, name: str) -> None:
    (tmp_path / "s").mkdir()
    secret.rename(tmp_path / "s" / name)
    record, path = transcode_one(tmp_path / "s" / name)
    assert (record.status, record.num_frames) == ("ok", 24)
    assert path.is_file()


PEAK = """
import resource, sys
from pathlib import Path
from encoding import transcode_one
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
record, _ = transcode_one(Path(sys.argv[1]))
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(record.problem, own // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("side", [9000, 16000, 30000, 65535])
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, side: int) -> None:
    (tmp_path / "x.gif").write_bytes(gif_bomb(side))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "x.gif"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    problem, own_mb, ffmpeg_mb = done.stdout.split()
    assert problem == b"too-large"
    assert int(own_mb) < 100
    assert int(ffmpeg_mb) < 200


def test_a_header_that_announces_too_much_is_refused_before_decoding(tmp_path: Path) -> None:
    small = write_video(tmp_path / "v.avi", grey_frames(12), codec=("-c:v", "mjpeg"))
    data = bytearray(small.read_bytes())
    at = data.index(b"strf") + 8
    data[at + 4 : at + 12] = (20000).to_bytes(4, "little") * 2
    start = 0
    while (start := data.find(b"\xff\xc0", start + 1)) > 0:
        data[start + 5 : start + 9] = (20000).to_bytes(2, "big") * 2
    (tmp_path / "x.avi").write_bytes(data)
    record, _ = transcode_one(tmp_path / "x.avi")
    assert (record.status, record.problem) == ("failed", "too-large")


def test_what_is_large_but_sane_passes() -> None:
    assert MAX_SOURCE_PIXELS >= 7680 * 4320 * 2


def test_endless_frames_end_at_the_deadline(tmp_path: Path) -> None:
    """Two frames a day apart are 86 million at 1000 a second."""
    apart = "settb=1/1000,setpts=N*86400000"
    write_video(tmp_path / "x.mkv", grey_frames(2), filters=apart, codec=(*MPEG4, "-fps_mode", "passthrough"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(DeadlineError, match="raise --timeout"):
        transcode_one(tmp_path / "x.mkv", replace(SMALL, fps=Fraction(1000)), timeout_seconds=1.5)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 300_000
