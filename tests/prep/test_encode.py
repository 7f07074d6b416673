"""Encode on tiny videos of known content: the grid, tails, colour, geometry, times."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from tiny_videos import cut_frames, grey_frames, run_tool, types_by_tool, write_video

from mfcd_prep.encode_settings import TAILS, EncodeSettings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

from encoding import GRID, encode_one, num_decoded, rgb_frames


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three videos of two classes."""
    for path, num_frames in [("run/1.avi", 24), ("run/2.mp4", 30), ("jump/3.mkv", 13)]:
        write_video(tmp_path / "source" / path, cut_frames(num_frames))
    return tmp_path / "source"


@pytest.mark.parametrize("quality", [2, 5])
def test_hard_cuts_do_not_break_the_grid(tmp_path: Path, quality: int) -> None:
    write_video(tmp_path / "s" / "v.mp4", cut_frames(48, every=5))
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 64), quality=quality))
    assert types_by_tool(path) == GRID * 4
    assert (record.num_frames, record.real_frames, record.num_gops) == (48, 48, 4)


@pytest.mark.parametrize("gop_size", [2, 16])
def test_other_gop_sizes_work(tmp_path: Path, gop_size: int) -> None:
    write_video(tmp_path / "s" / "v.mp4", cut_frames(32, every=3))
    _, path = encode_one(tmp_path / "s", EncodeSettings((64, 64), gop_size=gop_size))
    assert types_by_tool(path) == ("I" + "P" * (gop_size - 1)) * (32 // gop_size)


# num_frames, real_frames by tail and by frames of the source; None: the video fails
TAIL_TABLE = {
    "auto": {1: (12, 1), 11: (12, 11), 12: (12, 12), 13: (12, 12), 24: (24, 24), 30: (24, 24)},
    "drop": {1: None, 11: None, 12: (12, 12), 13: (12, 12), 24: (24, 24), 30: (24, 24)},
    "pad": {1: (12, 1), 11: (12, 11), 12: (12, 12), 13: (24, 13), 24: (24, 24), 30: (36, 30)},
}


@pytest.mark.parametrize(("tail", "num"), [(tail, num) for tail, rows in TAIL_TABLE.items() for num in rows])
def test_tails(tmp_path: Path, tail: str, num: int) -> None:
    extension = "mkv" if num % 2 else "mp4"  # one has no count in its header, the other has
    write_video(tmp_path / "s" / f"v.{extension}", grey_frames(num))
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 48), tail=tail))
    expected = TAIL_TABLE[tail][num]
    if expected is None:
        assert record.status == "failed"
        assert f"{num} frames" in (record.reason or "")
        assert not path.exists()
        return
    assert (record.num_frames, record.real_frames) == expected
    assert record.num_frames_decoded == num
    assert types_by_tool(path) == GRID * (expected[0] // 12)
    levels = rgb_frames(path).mean(axis=(1, 2, 3))
    shown = np.minimum(np.arange(expected[0]), expected[1] - 1)
    np.testing.assert_allclose(levels, 16 + 4 * shown, atol=1.5)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("num", range(1, 50))
def test_tail_rules_keep_whole_gops(tail: str, num: int) -> None:
    num_frames = TAILS[tail](num, 12)
    assert num_frames % 12 == 0
    assert abs(num_frames - num) < 12
    assert {"drop": num_frames <= num, "pad": num_frames >= num, "auto": num_frames >= 12}[tail]


BARS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200), (200, 40, 200)], np.uint8)


def bar_frames(height: int, width: int) -> NDArray[np.uint8]:
    return np.broadcast_to(BARS[np.arange(width) * len(BARS) // width], (12, height, width, 3)).copy()


@pytest.mark.parametrize(
    ("size", "matrix", "matrix_range", "tagged"),
    [
        ((320, 240), "bt601", "tv", True),
        ((320, 240), "bt709", "tv", True),
        ((320, 240), "bt709", "pc", True),
        ((320, 240), "bt601", "tv", False),
        ((1280, 720), "bt601", "tv", True),
        ((1280, 720), "bt709", "tv", False),
    ],
)
def test_colours_survive_whatever_the_matrix_of_the_source(
    tmp_path: Path, size: tuple[int, int], matrix: str, matrix_range: str, *, tagged: bool
) -> None:
    names = {"bt601": "smpte170m", "bt709": "bt709"}
    tags = (names[matrix], matrix_range) if tagged else ("unknown", "unknown")
    filters = f"scale=out_color_matrix={matrix}:out_range={matrix_range}:flags=accurate_rnd,format=yuv420p"
    filters += f",setparams=colorspace={tags[0]}:range={tags[1]}"
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", *(("-colorspace", tags[0]) if tagged else ()))
    write_video(tmp_path / "s" / "v.mp4", bar_frames(size[1], size[0]), codec=codec, filters=filters)
    record, path = encode_one(tmp_path / "s", EncodeSettings((96, 96)))
    assert record.matrix == (names[matrix] if tagged else "unspecified")
    middles = rgb_frames(path)[:, 48, 8::16].astype(int)
    assert np.abs(middles - BARS).max() <= 8


def test_rotation_is_applied(tmp_path: Path) -> None:
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    frames[:, :, :32] = 255  # left half white
    upright = write_video(tmp_path / "upright.mp4", frames)
    (tmp_path / "s").mkdir()
    run_tool("-display_rotation", "90", "-i", f"{upright}", "-c", "copy", f"{tmp_path / 's' / 'v.mp4'}")
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 64)))
    assert abs(record.rotation or 0) == 90
    picture = rgb_frames(path)[0].mean(axis=2)
    assert picture[40:].mean() > 230  # a quarter turn against the clock: left becomes bottom
    assert picture[:24].mean() < 25


def test_pixels_become_square(tmp_path: Path) -> None:
    write_video(tmp_path / "s" / "v.mp4", grey_frames(12), filters="setsar=2/1")
    record, path = encode_one(tmp_path / "s")
    assert record.sar == "2"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio in (None, 1)
        assert (stream.width, stream.height) == (64, 48)


def test_a_variable_frame_rate_keeps_every_frame_in_order(tmp_path: Path) -> None:
    filters = "settb=1/1000,setpts='40*N+7*mod(N\\,3)+200*gte(N\\,20)'"
    codec = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p", "-bf", "0", "-fps_mode", "vfr")
    video = write_video(tmp_path / "s" / "v.mkv", grey_frames(36), filters=filters, codec=codec)
    assert num_decoded(video) == 36
    record, path = encode_one(tmp_path / "s")
    assert (record.num_frames_decoded, record.num_frames) == (36, 36)
    np.testing.assert_allclose(rgb_frames(path).mean(axis=(1, 2, 3)), 16 + 4 * np.arange(36), atol=1.5)


def test_fps_resamples(tmp_path: Path) -> None:
    write_video(tmp_path / "s" / "v.mp4", grey_frames(48))
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 48), fps=Fraction(25, 2)))
    assert (record.num_frames_decoded, record.num_frames) == (48, 24)
    steps = np.diff(rgb_frames(path).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(steps, 8, atol=2.5)  # every other frame


def test_sound_and_subtitles_are_dropped(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", grey_frames(24))
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    (tmp_path / "s").mkdir()
    tracks = ("-i", f"{silent}", "-f", "lavfi", "-i", "sine=d=1", "-i", f"{tmp_path / 'words.srt'}")
    run_tool(*tracks, "-map", "0", "-map", "1", "-map", "2", "-c:v", "copy", f"{tmp_path / 's' / 'v.mkv'}")
    _, path = encode_one(tmp_path / "s")
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_every_output_begins_at_time_zero(tmp_path: Path) -> None:
    write_video(tmp_path / "s" / "v.mkv", grey_frames(24), filters="setpts=PTS+3/TB")
    _, path = encode_one(tmp_path / "s")
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(24) / 25, atol=1e-6)
