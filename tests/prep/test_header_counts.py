"""What the header says of the number of frames is a hint: right or wrong, every frame is decoded and accounted for."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import imageio_ffmpeg
import numpy as np
import pytest
from encoding import SMALL, rgb_frames, transcode_one
from tiny_videos import cut_frames, grey_frames, run_tool, write_video

from mfcd_prep import transcode
from mfcd_prep.bitstream import opened
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.ffmpeg import ffmpeg_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REAL = imageio_ffmpeg.get_ffmpeg_exe()
MPEG4 = ("-c:v", "mpeg4", "-q:v", "2", "-bf", "0")
LENGTH_OFFSET = 8 + 32  # of dwLength from the name of AVI's stream header


def write_avi(path: Path, num_frames: int, num_in_header: int) -> Path:
    data = bytearray(write_video(path, grey_frames(num_frames), codec=MPEG4).read_bytes())
    struct.pack_into("<I", data, data.index(b"strh") + LENGTH_OFFSET, num_in_header)
    path.write_bytes(data)
    return path


def packets(path: Path) -> list[tuple[int | None, bytes]]:
    with opened(path) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(video=0) if packet.size]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[str]]]:
    """Puts a script in ffmpeg's place that changes the arguments, by a pattern of bash; gives the steps that ran."""
    script, real = tmp_path / "ffmpeg.sh", transcode.cut_to

    def cut(source: Path, target: Path, num_frames: int) -> None:
        with (tmp_path / "steps").open("a") as steps:
            steps.write("cut\n")
        real(source, target, num_frames)

    def replacing(pattern: str = "") -> list[str]:
        log = f"[ $1 = -version ] || echo run >> {tmp_path}/steps"
        script.write_text(f'#!/bin/bash\n{log}\nexec "{REAL}" "${{@{pattern}}}"\n')
        script.chmod(0o755)
        steps = tmp_path / "steps"
        return steps.read_text().split() if steps.exists() else []

    replacing()
    monkeypatch.setattr(transcode, "cut_to", cut)
    monkeypatch.setenv("MFCD_FFMPEG", str(script))
    ffmpeg_binary.cache_clear()
    yield replacing
    monkeypatch.undo()
    ffmpeg_binary.cache_clear()


@pytest.mark.parametrize(
    ("num_frames", "num_in_header", "steps", "written_and_real", "problem"),
    [
        (50, 50, ["run"], (48, 48), None),
        (48, 48, ["run"], (48, 48), None),
        (50, 52, ["run"], (48, 48), "truncated"),
        (50, 65, ["run", "cut"], (48, 48), "truncated"),
        (50, 60, ["run", "cut"], (48, 48), "truncated"),
        (7, 17, ["run", "run", "cut"], (12, 7), "truncated"),
        (50, 49, ["run"], (48, 48), None),
        (50, 38, ["run", "run", "cut"], (48, 48), None),
        (48, 38, ["run", "run"], (48, 48), None),
        (50, 36, ["run", "cut"], (48, 48), None),
        (50, 5, ["run", "cut"], (48, 48), None),
        (50, 0, ["run", "cut"], (48, 48), None),
    ],
)
def test_a_header_that_is_right_saves_the_cut_and_one_that_is_wrong_costs_no_frame(
    tmp_path: Path,
    calls: Callable[[], list[str]],
    num_frames: int,
    num_in_header: int,
    steps: list[str],
    written_and_real: tuple[int, int],
    problem: str | None,
) -> None:
    record, path = transcode_one(write_avi(tmp_path / "v.avi", num_frames, num_in_header))
    assert calls() == steps
    assert (record.num_frames_from_header or 0, record.num_frames_decoded) == (num_in_header, num_frames)
    assert (record.status, record.problem, record.num_complaints) == ("ok", problem, 0)
    assert (record.num_frames, record.real_frames) == written_and_real
    assert record.num_gops == written_and_real[0] // 12
    levels = 16 + 4 * np.minimum(np.arange(written_and_real[0]), num_frames - 1)
    np.testing.assert_allclose(rgb_frames(path).mean(axis=(1, 2, 3)), levels, atol=2)


@pytest.mark.parametrize(
    "settings",
    [SMALL, EncodeSettings((64, 48), tail="drop"), EncodeSettings((64, 48), gop_size=7)],
    ids=["auto", "drop", "7"],
)
@pytest.mark.parametrize("kind", ["plain", "turned", "interlaced", "odd rate", "variable rate"])
def test_frames_left_out_before_the_encoder_leave_the_bytes_of_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, settings: EncodeSettings
) -> None:
    codec = ("-c:v", "libx264", "-qp", "0", "-preset", "ultrafast")
    flags = {"interlaced": ("-x264-params", "tff=1"), "variable rate": ("-fps_mode", "passthrough")}.get(kind, ())
    times = "setpts='(N+N*N/20)/25/TB'" if kind == "variable rate" else "null"
    rate = "30000/1001" if kind == "odd rate" else "25"
    whole = write_video(tmp_path / "w.mp4", grey_frames(50), fps=rate, codec=(*codec, *flags), filters=times)
    turn = ("-display_rotation", "90") if kind == "turned" else ()
    run_tool(*turn, "-i", str(whole), "-c", "copy", str(tmp_path / "v.mp4"))
    record, path = transcode_one(tmp_path / "v.mp4", settings)
    assert (record.num_frames_from_header, record.num_frames) == (50, 50 // settings.gop_size * settings.gop_size)
    assert record.interlaced == (kind == "interlaced")
    found = packets(path)
    monkeypatch.setattr(transcode, "_most_frames", lambda *_: None)
    assert transcode_one(tmp_path / "v.mp4", settings)[0].num_frames == len(found)
    assert packets(path) == found


def test_damage_behind_the_last_frame_that_is_kept_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.avi", cut_frames(50), codec=("-c:v", "mjpeg"))
    data = bytearray(path.read_bytes())
    last = data.rindex(b"00dc", 0, data.rindex(b"idx1"))
    data[last + 8 : data.rindex(b"idx1")] = bytes(data.rindex(b"idx1") - last - 8)
    path.write_bytes(data)
    record, _ = transcode_one(path)
    assert (record.num_frames_from_header, record.num_frames, record.num_frames_decoded) == (50, 48, 49)
    assert (record.status, record.problem) == ("ok", "damaged")
    monkeypatch.setattr(transcode, "_most_frames", lambda *_: None)
    assert replace(transcode_one(path)[0], bytes=record.bytes, xxh3_64=record.xxh3_64) == record


@pytest.mark.parametrize("number", [0, 30, 47])
def test_a_frame_that_is_lost_on_the_way_is_missed(
    tmp_path: Path, calls: Callable[[str], list[str]], number: int
) -> None:
    """50 frames, one of the first 48 is gone: number 48 must not take its place."""
    calls(rf"/\[0:0\]/[0:0]select=not(eq(n\\,{number})),")
    record, _ = transcode_one(write_avi(tmp_path / "v.avi", 50, 50))
    assert (record.status, record.problem) == ("failed", "off-grid")
    assert record.reason == "ffmpeg decoded 50 frames but wrote 47: expected 48"


def test_frames_of_another_rate_are_never_counted_by_the_header(tmp_path: Path, calls: Callable[[], list[str]]) -> None:
    record, _ = transcode_one(write_avi(tmp_path / "v.avi", 50, 50), EncodeSettings((64, 48), fps=Fraction(50)))
    assert (record.num_frames, record.num_frames_decoded) == (96, 50)
    assert calls() == ["run", "cut"]
