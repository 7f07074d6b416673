"""Picture types from headers alone: the decoder is the witness, and what is no whole picture is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_videos import cut_frames, types_by_tool, write_video

from mfcd_core.errors import VideoError
from mfcd_prep.mpeg4 import PICTURE, parse_picture_type, parse_time_bits, read_picture_types

if TYPE_CHECKING:
    from pathlib import Path

MPEG4 = ("-c:v", "mpeg4", "-q:v", "3", "-threads", "1")


@pytest.mark.parametrize("fps", ["25", "30000/1001", "1", "60000/1001", "65535/2"])
@pytest.mark.parametrize("options", [("-g", "12"), ("-g", "5", "-aspect", "7:3"), ("-g", "12", "-strict", "-1")])
def test_headers_and_the_ffmpeg_program_agree(tmp_path: Path, fps: str, options: tuple[str, ...]) -> None:
    video = write_video(tmp_path / "v.mp4", cut_frames(40), fps=fps, codec=(*MPEG4, *options))
    types = types_by_tool(video)
    assert len(types) == 40
    assert types.count("I") > 40 // 12  # the cut has one of its own
    assert read_picture_types(video) == types


def test_bidirectional_pictures_are_told_in_the_order_of_the_stream(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", cut_frames(24), codec=(*MPEG4, "-bf", "2", "-g", "12"))
    types = read_picture_types(video)
    assert sorted(types) == sorted(types_by_tool(video))
    assert types.startswith("IPBB")


def test_a_foreign_encoder_is_read_too(real_clips: Path) -> None:
    video = next((real_clips / "odd").glob("ucf101_*.avi"))
    assert read_picture_types(video) == types_by_tool(video)


def test_another_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no MPEG-4 video object layer"):
        read_picture_types(write_video(tmp_path / "v.mp4", cut_frames(3), codec=("-c:v", "libx264")))


@pytest.fixture
def stream(tmp_path: Path) -> tuple[bytes, list[bytes]]:
    """Header and packets of a real stream."""
    video = write_video(tmp_path / "v.mp4", cut_frames(13), codec=(*MPEG4, "-g", "12"))
    with av.open(str(video)) as container:
        packets = [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]
        return container.streams.video[0].codec_context.extradata or b"", packets


def test_a_picture_that_is_not_coded_is_refused(stream: tuple[bytes, list[bytes]]) -> None:
    """Bits of the header: type 2, seconds 1 (0), marker 1, time increment, marker 1, coded 1."""
    layer, packets = stream
    time_bits = parse_time_bits(layer)
    at = packets[1].index(PICTURE) + 4
    bit = 2 + 1 + 1 + time_bits + 1
    skipped = bytearray(packets[1])
    skipped[at + bit // 8] ^= 0x80 >> bit % 8
    assert parse_picture_type(packets[1], time_bits) == "P"
    with pytest.raises(VideoError, match="not coded"):
        parse_picture_type(bytes(skipped), time_bits)


def test_a_packet_has_exactly_one_picture(stream: tuple[bytes, list[bytes]]) -> None:
    layer, packets = stream
    for packet in (b"", packets[1][3:], packets[1] + packets[2]):
        with pytest.raises(VideoError, match="exactly one picture"):
            parse_picture_type(packet, parse_time_bits(layer))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", cut_frames(24), codec=(*MPEG4, "-g", "12"))
    whole = read_picture_types(video)
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    try:
        assert len(read_picture_types(video)) < len(whole)
    except VideoError as error:
        assert "cut off" in str(error)  # noqa: PT017, a cut between two packets leaves fewer of them


@given(st.binary(max_size=64), st.integers(1, 16))
def test_any_bytes_are_a_type_or_an_error(data: bytes, time_bits: int) -> None:
    for parse in (parse_time_bits, lambda layer: parse_picture_type(PICTURE + layer, time_bits)):
        try:
            assert parse(b"\0\0\1\x20" + data) in ("I", "P", "B", "S", *range(1, 17))
        except VideoError:
            continue
