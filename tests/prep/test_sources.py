"""Kinds of sources: fields, rotation, edit lists, several tracks, pixel formats. Every frame is accounted for."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from encoding import SMALL, num_decoded, rgb_frames, transcode_one
from tiny_videos import grey_frames, run_tool, write_video

from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.source import probe

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MPEG4 = ("-c:v", "mpeg4", "-q:v", "2", "-threads", "1")
FIELDS = ("-flags", "+ildct+ilme")


def bar_frames(num_frames: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A white bar 16 pixels wide moves 6 pixels a frame."""
    columns = (np.arange(width)[None] - 6 * np.arange(num_frames)[:, None]) % width < 16
    return np.broadcast_to((columns * np.uint8(255))[:, None, :, None], (num_frames, height, width, 3)).copy()


def combing(frames: NDArray[np.uint8]) -> float:
    """Mean absolute difference of a line to the mean of its neighbours: high where two moments are interwoven."""
    grey = frames.astype(float).mean(axis=-1)
    return float(np.abs(grey[:, 1:-1] - (grey[:, :-2] + grey[:, 2:]) / 2).mean())


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.mpg", ("-c:v", "mpeg2video", "-q:v", "2", *FIELDS)),
        ("v.avi", (*MPEG4, *FIELDS)),
        ("v.mp4", ("-c:v", "libx264", "-qp", "10", "-flags", "+ildct", "-x264-params", "tff=1", "-threads", "1")),
    ],
)
def test_interlaced_frames_lose_their_combing_and_none_is_lost(
    tmp_path: Path, name: str, codec: tuple[str, ...]
) -> None:
    source = write_video(tmp_path / name, bar_frames(48), codec=codec, filters="tinterlace=interleave_top,setfield=tff")
    record, path = transcode_one(source, EncodeSettings((64, 48)))
    assert record.interlaced is True
    assert (record.num_frames_decoded, record.real_frames, record.damage) == (24, 24, None)
    before = combing(rgb_frames(source))
    assert before > 15
    assert combing(rgb_frames(path)) < before / 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (2, 8), (8, 2), (4, 4), (16, 3)])
def test_interlaced_sources_of_any_size_pass(tmp_path: Path, width: int, height: int) -> None:
    codec = ("-c:v", "ffv1", "-pix_fmt", "yuv444p")
    source = write_video(tmp_path / "v.mkv", grey_frames(12, height, width), codec=codec, filters="setfield=tff")
    record, _ = transcode_one(source)
    assert (record.interlaced, record.status, record.num_frames_decoded) == (True, "ok", 12)


def test_a_single_interlaced_frame_stays_one(tmp_path: Path) -> None:
    source = write_video(
        tmp_path / "v.avi", bar_frames(2), codec=(*MPEG4, *FIELDS), filters="tinterlace=interleave_top"
    )
    record, _ = transcode_one(source)
    assert (record.interlaced, record.num_frames_decoded, record.real_frames) == (True, 1, 1)


def test_a_progressive_source_gets_no_filter(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "v.mp4", grey_frames(12)))
    assert (info.interlaced, info.first_filters) == (False, ())


QUADRANTS = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)


def corners(picture: NDArray[np.uint8]) -> list[list[int]]:
    """The quadrant that is seen in each corner, by QUADRANTS' colours: 0 red, 1 green, 2 blue, 3 white."""
    height, width, _ = picture.shape
    colours = picture[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)
    distances = np.abs(colours[:2, :2, None] - QUADRANTS.reshape(4, 3).astype(int)).sum(axis=-1)
    return [[int(k) for k in row] for row in distances.argmin(axis=-1)]


@pytest.mark.parametrize("flip", ["", "-display_hflip", "-display_vflip"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_display_matrix_is_applied_as_the_ffmpeg_program_does(tmp_path: Path, degrees: int, flip: str) -> None:
    frames = np.broadcast_to(QUADRANTS.repeat(24, axis=0).repeat(32, axis=1), (12, 48, 64, 3)).copy()
    coded = write_video(tmp_path / "coded.mp4", frames)
    matrix = ("-display_rotation", str(degrees), *([flip] if flip else []))
    run_tool(*matrix, "-i", f"{coded}", "-c", "copy", f"{tmp_path / 'v.mp4'}")
    run_tool("-i", f"{tmp_path / 'v.mp4'}", "-qp", "0", f"{tmp_path / 'upright.mkv'}")
    record, path = transcode_one(tmp_path / "v.mp4", EncodeSettings((64, 64)))
    if not flip:
        assert abs(record.rotation or 0) == min(degrees, 360 - degrees)
    assert corners(rgb_frames(path)[0]) == corners(rgb_frames(tmp_path / "upright.mkv")[0])
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize("degrees", [0, 90, 180])
@pytest.mark.parametrize("order", [(64, 320), (320, 64)])
def test_a_rotated_source_may_change_its_size(tmp_path: Path, order: tuple[int, int], degrees: int) -> None:
    """What a filter of fixed size would read beyond a smaller frame is no part of the video."""
    parts = []
    for side in order:
        part = tmp_path / f"{side}.h264"
        write_video(part, grey_frames(12, side, side), codec=("-c:v", "libx264", "-qp", "1", "-bf", "0"))
        parts.append(part.read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    into = ("-i", f"{tmp_path / 'both.h264'}", "-c", "copy", f"{tmp_path / 'v.mp4'}")
    run_tool("-display_rotation", str(degrees), *into)
    record, path = transcode_one(tmp_path / "v.mp4")
    assert (record.status, record.problem, record.num_frames_decoded) == ("ok", "size-changes", 24)
    assert f"from {order[0]}x{order[0]} to {order[1]}x{order[1]}" in (record.damage or "")
    frames = rgb_frames(path)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), 16 + 4 * np.tile(np.arange(12), 2), atol=2)
    assert frames.std(axis=(1, 2)).max() < 2


def test_an_edit_list_that_cuts_the_start_shows_what_a_player_shows(tmp_path: Path) -> None:
    codec = ("-c:v", "libx264", "-qp", "0", "-preset", "ultrafast", "-g", "10", "-bf", "0")
    whole = write_video(tmp_path / "whole.mp4", grey_frames(48), codec=codec)
    run_tool("-ss", "0.52", "-i", f"{whole}", "-c", "copy", f"{tmp_path / 'v.mp4'}")
    record, path = transcode_one(tmp_path / "v.mp4")
    assert (record.num_frames_from_header, record.num_frames_decoded) == (38, 35)  # from keyframe 10; 13 to 47 seen
    assert (record.real_frames, record.damage) == (24, None)
    np.testing.assert_allclose(rgb_frames(path).mean(axis=(1, 2, 3)), 16 + 4 * (13 + np.arange(24)), atol=1.5)


def test_an_edit_list_that_cuts_the_end_is_no_damage(tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "v.mp4", grey_frames(48)).read_bytes())
    struct.pack_into(">I", data, data.index(b"elst") + 12, 1000)  # of 1920 ms
    (tmp_path / "v.mp4").write_bytes(data)
    assert num_decoded(tmp_path / "v.mp4") == 25
    record, _ = transcode_one(tmp_path / "v.mp4")
    assert (record.num_frames_from_header, record.num_frames_decoded, record.damage) == (48, 25, None)


def two_tracks(folder: Path) -> bytes:
    """Track 0 is black, 36 frames; track 1 is flat grey 200, 24 frames."""
    for name, level, num in [("black", 0, 36), ("grey", 200, 24)]:
        write_video(folder / f"{name}.mp4", np.full((num, 32, 48, 3), level, np.uint8), codec=MPEG4)
    inputs = ("-i", f"{folder / 'black.mp4'}", "-i", f"{folder / 'grey.mp4'}")
    run_tool(*inputs, "-map", "0", "-map", "1", "-c", "copy", f"{folder / 'two.mp4'}")
    return (folder / "two.mp4").read_bytes()


def with_unknown_codec(video: bytes) -> bytes:
    """The first track says that it is of a codec that nobody knows."""
    at = video.index(b"mp4v", video.index(b"stsd"))
    config = video.index(b"esds", at)
    return video[:at] + b"zzzz" + video[at + 4 : config] + b"free" + video[config + 4 :]


@pytest.mark.parametrize(("spoiled", "level", "num"), [(False, 0, 36), (True, 200, 24)])
def test_the_first_track_with_frames_wins(tmp_path: Path, *, spoiled: bool, level: int, num: int) -> None:
    data = two_tracks(tmp_path)
    (tmp_path / "v.mp4").write_bytes(with_unknown_codec(data) if spoiled else data)
    record, path = transcode_one(tmp_path / "v.mp4")
    assert (record.status, record.num_frames_decoded) == ("ok", num)
    assert abs(rgb_frames(path).mean() - level) < 3


def test_an_empty_first_track_does_not_win(tmp_path: Path) -> None:
    two_tracks(tmp_path)
    late = ("-itsoffset", "10", "-i", f"{tmp_path / 'black.mp4'}", "-i", f"{tmp_path / 'grey.mp4'}")
    run_tool(*late, "-map", "0", "-map", "1", "-c", "copy", "-t", "2", f"{tmp_path / 'v.mkv'}")
    with av.open(str(tmp_path / "v.mkv")) as container:
        assert len(container.streams.video) == 2
    record, path = transcode_one(tmp_path / "v.mkv")
    assert record.num_frames_decoded == 24
    assert abs(rgb_frames(path).mean() - 200) < 3


def test_a_cover_picture_before_the_video_is_no_track(tmp_path: Path) -> None:
    two_tracks(tmp_path)
    run_tool("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", f"{tmp_path / 'cover.png'}")
    inputs = ("-i", f"{tmp_path / 'cover.png'}", "-i", f"{tmp_path / 'grey.mp4'}", "-map", "0", "-map", "1")
    run_tool(*inputs, "-c", "copy", "-disposition:v:0", "attached_pic", f"{tmp_path / 'v.mp4'}")
    record, path = transcode_one(tmp_path / "v.mp4")
    assert (record.codec, record.num_frames_decoded) == ("mpeg4", 24)
    assert abs(rgb_frames(path).mean() - 200) < 3


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.mkv", ("-c:v", "libx264", "-qp", "1", "-pix_fmt", "yuv420p10le")),
        ("v.mp4", ("-c:v", "libx264", "-qp", "1", "-pix_fmt", "yuv444p")),
        ("v.mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv422p16le")),
        ("v.avi", ("-c:v", "rawvideo", "-pix_fmt", "bgr24")),
        ("v.mov", ("-c:v", "prores_ks")),
        ("v.gif", ("-c:v", "gif")),
        ("v.webm", ("-c:v", "libvpx-vp9", "-lossless", "1")),
    ],
)
@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_any_pixel_format_and_odd_sizes(
    tmp_path: Path, name: str, codec: tuple[str, ...], size: tuple[int, int]
) -> None:
    if "yuv420p10le" in codec or "prores_ks" in codec:
        size = (32, 48)  # these codecs have even sizes alone
    source = write_video(tmp_path / name, grey_frames(24, *size), codec=codec)
    record, path = transcode_one(source)
    assert (record.status, record.num_frames_decoded, record.damage) == ("ok", 24, None)
    assert (record.height, record.width) == size
    np.testing.assert_allclose(rgb_frames(path).mean(axis=(1, 2, 3)), 16 + 4 * np.arange(24), atol=2.5)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.mov", ("-c:v", "png", "-pix_fmt", "rgba")), ("v.mov", ("-c:v", "qtrle", "-pix_fmt", "argb"))],
)
def test_transparent_pixels_keep_the_colour_under_them(tmp_path: Path, name: str, codec: tuple[str, ...]) -> None:
    fade = "format=rgba,colorchannelmixer=aa=0.25"
    source = write_video(tmp_path / name, grey_frames(24), codec=codec, filters=fade)
    record, path = transcode_one(source)
    assert record.status == "ok"
    np.testing.assert_allclose(rgb_frames(path).mean(axis=(1, 2, 3)), 16 + 4 * np.arange(24), atol=2.5)


def test_the_alpha_plane_of_a_webm_is_left_out(tmp_path: Path) -> None:
    codec = ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-lossless", "1")
    source = write_video(tmp_path / "v.webm", grey_frames(24), codec=codec, filters="format=yuva420p")
    record, path = transcode_one(source)
    assert (record.status, record.num_frames_decoded) == ("ok", 24)
    np.testing.assert_allclose(rgb_frames(path).mean(axis=(1, 2, 3)), 16 + 4 * np.arange(24), atol=2.5)


def test_fps_resamples_a_variable_rate_by_its_own_times(tmp_path: Path) -> None:
    """12 frames 40 ms apart, then 12 frames 200 ms apart: at 25 a second the later ones are shown five times."""
    times = "settb=1/1000,setpts='if(lt(N,12),40*N,480+200*(N-12))'"
    codec = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p", "-bf", "0", "-fps_mode", "vfr")
    source = write_video(tmp_path / "v.mkv", grey_frames(24), filters=times, codec=codec)
    record, path = transcode_one(source, EncodeSettings((64, 48), fps=Fraction(25)))
    assert record.num_frames_decoded == 24
    levels = rgb_frames(path).mean(axis=(1, 2, 3))[:60]
    shown = np.r_[np.arange(12), 12 + np.arange(48) // 5]
    np.testing.assert_allclose(levels, 16 + 4 * shown, atol=1.5)


def test_a_gif_with_long_delays_keeps_one_frame_each(tmp_path: Path) -> None:
    delays = "settb=1/100,setpts=55*N+45*mod(N\\,2)"  # 1 s and 0.1 s in turn
    source = write_video(tmp_path / "v.gif", grey_frames(24), filters=delays, codec=("-c:v", "gif", "-fps_mode", "vfr"))
    record, _ = transcode_one(source)
    assert (record.num_frames_decoded, record.num_frames) == (24, 24)


def test_a_title_in_another_encoding_is_no_obstacle(tmp_path: Path) -> None:
    write_video(tmp_path / "plain.mp4", grey_frames(12))
    run_tool("-i", f"{tmp_path / 'plain.mp4'}", "-c", "copy", "-metadata", "title=cafXX", f"{tmp_path / 'v.mp4'}")
    data = (tmp_path / "v.mp4").read_bytes()
    assert b"cafXX" in data
    (tmp_path / "v.mp4").write_bytes(data.replace(b"cafXX", b"caf\xe9\xff"))
    assert transcode_one(tmp_path / "v.mp4", SMALL)[0].status == "ok"
