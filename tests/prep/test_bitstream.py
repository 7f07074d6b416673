from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_videos import cut_frames, grey_frames, run_tool, types_by_tool, write_video

from mfcd_core.errors import GopError, VideoError
from mfcd_prep.bitstream import check_gop_grid, cut_to, decode_picture_types
from mfcd_prep.source import mpeg4_rate, probe

if TYPE_CHECKING:
    from pathlib import Path

MPEG4 = ("-c:v", "mpeg4", "-q:v", "2", "-bf", "0", "-threads", "1")


@pytest.mark.parametrize("types", ["I", "IPPPPPPPPPPP", "IPPPPPPPPPPPI", "IPPPPPPPPPPPIPP"])
def test_a_grid_with_or_without_a_short_tail_passes(types: str) -> None:
    check_gop_grid(types, 12)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ("", "no frames"),
        ("P", "frame 0 is P, expected I"),
        ("IPPPPIPPPPPP", "frame 5 is I, expected P"),
        ("IPPPPPPPPPPPPI", "frame 12 is P, expected I"),
        ("IPBP", "frame 2 is B, expected P"),
    ],
)
def test_the_first_frame_that_breaks_the_grid_is_named(types: str, message: str) -> None:
    with pytest.raises(GopError, match=message):
        check_gop_grid(types, 12)


@pytest.mark.parametrize(
    "codec",
    [
        ("-c:v", "libx264", "-g", "7", "-bf", "2", "-threads", "1"),
        ("-c:v", "mpeg4", "-g", "12", "-q:v", "5", "-threads", "1"),  # leaves the grid at scene cuts
        ("-c:v", "mpeg2video", "-g", "6", "-bf", "2", "-threads", "1"),
    ],
)
def test_picture_types_are_those_that_the_ffmpeg_program_decodes(tmp_path: Path, codec: tuple[str, ...]) -> None:
    video = write_video(tmp_path / "v.mkv", cut_frames(40), codec=codec)
    types = types_by_tool(video)
    assert len(types) == 40
    assert decode_picture_types(video) == types


def test_a_cut_keeps_the_first_frames_bit_by_bit(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "v.mp4", grey_frames(30), codec=(*MPEG4, "-g", "12"))
    cut_to(whole, tmp_path / "cut.mp4", 24)
    hashes = [run_tool_hash(path) for path in (whole, tmp_path / "cut.mp4")]
    assert len(hashes[0]) == 30
    assert hashes[1] == hashes[0][:24]


def run_tool_hash(path: Path) -> list[str]:
    """One hash a decoded frame, by the ffmpeg program."""
    out = path.with_suffix(".framemd5")
    run_tool("-v", "error", "-i", f"file:{path}", "-f", "framemd5", f"file:{out}")
    return [line.rpartition(",")[2].strip() for line in out.read_text().splitlines() if not line.startswith("#")]


def test_a_probe_says_what_the_header_says(tmp_path: Path) -> None:
    tags = ("-colorspace", "bt709", "-color_range", "pc", "-aspect", "3:1")
    codec = ("-c:v", "libx264", "-pix_fmt", "yuv444p", *tags)
    video = write_video(tmp_path / "v.mp4", grey_frames(9), fps="30000/1001", codec=codec)
    info = probe(video)
    assert (info.codec, info.width, info.height, info.fps) == ("h264", 48, 32, Fraction(30000, 1001))
    assert (info.matrix, info.range, info.sar) == ("bt709", "pc", Fraction(2))
    assert info.num_frames_from_header == 9
    assert info.matrix_read_as == "auto"


@pytest.mark.parametrize(
    ("size", "matrix"), [((640, 480), "auto"), ((720, 576), "auto"), ((1280, 544), "bt709"), ((720, 578), "bt709")]
)
def test_an_untagged_source_is_bt601_up_to_576_lines_and_bt709_above(
    tmp_path: Path, size: tuple[int, int], matrix: str
) -> None:
    video = write_video(tmp_path / "v.avi", grey_frames(1, size[1], size[0]), codec=("-c:v", "mpeg4"))
    assert probe(video).matrix == "unspecified"
    assert probe(video).matrix_read_as == matrix


def test_a_container_without_a_count_says_none(tmp_path: Path) -> None:
    assert probe(write_video(tmp_path / "v.mkv", grey_frames(5))).num_frames_from_header is None


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    run_tool("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", f"{cover}")
    song = ("-f", "lavfi", "-i", "sine=d=1", "-i", f"{cover}", "-map", "0", "-map", "1", "-c:v", "png")
    run_tool(*song, "-disposition:v:0", "attached_pic", f"{tmp_path / 'song.mp4'}")
    with av.open(str(tmp_path / "song.mp4")) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(VideoError, match="no video stream"):
        probe(tmp_path / "song.mp4")


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "m3u8": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "text": "nothing of a video\n",
    "empty": "",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_named_as_a_video_reaches_no_other_file(tmp_path: Path, kind: str) -> None:
    write_video(tmp_path / "secret.mp4", grey_frames(12))
    (tmp_path / "x.avi").write_text(PLAYLISTS[kind], "utf-8")
    with pytest.raises(VideoError, match="cannot be read as a video"):
        probe(tmp_path / "x.avi")
    with pytest.raises(VideoError, match="cannot be read as a video"):
        decode_picture_types(tmp_path / "x.avi")


@pytest.mark.parametrize("rate", [None, Fraction(0), Fraction(-1), Fraction(90000)])
def test_a_rate_that_is_none_becomes_25(rate: Fraction | None) -> None:
    assert mpeg4_rate(rate) == 25


@pytest.mark.parametrize("rate", ["25", "30000/1001", "24000/1001", "2160/77", "1/2", "1000"])
def test_a_common_rate_is_kept(rate: str) -> None:
    assert mpeg4_rate(Fraction(rate)) == Fraction(rate)


@given(st.fractions(min_value=Fraction(1, 1000), max_value=1000, max_denominator=10**9))
def test_any_rate_fits_the_time_base_of_mpeg4(rate: Fraction) -> None:
    fitted = mpeg4_rate(rate)
    assert 0 < fitted.numerator <= 65535
    assert fitted.denominator <= 65535
    assert abs(fitted - rate) <= rate * Fraction(1, 60)
