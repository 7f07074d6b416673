"""What a source says of itself: its its header and its first frame."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.sidedata.sidedata import SideData

from mfcd_core.errors import VideoError
from mfcd_prep.bitstream import opened, video_streams
from mfcd_prep.ffmpeg import MAX_SOURCE_PIXELS, MAX_SOURCE_SIDE_PX
from mfcd_prep.process import NO_DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from mfcd_prep.ffmpeg import Filter
    from mfcd_prep.process import Deadline

# Names of FFmpeg's AVColorSpace and AVColorRange, as its filters spell them.
MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc"}
RANGES = {1: "tv", 2: "pc"}
INTERLACED_ORDERS = (2, 3, 4, 5)  # of AVFieldOrder
MIN_FIELD_WIDTH, MIN_FIELD_HEIGHT = 3, 4
DEINTERLACE: Filter = ("bwdif", {"mode": "send_frame", "deint": "interlaced"})
# Three zero bytes cannot be in a coded slice of these (emulation prevention), and CABAC decodes zeros without a word.
HOLE = bytes(64)
WITHOUT_ZEROS = ("h264", "hevc")
DEFAULT_FPS = Fraction(25)
MAX_FPS = 1000
MAX_TIME_BASE = 65535  # MPEG-4 part 2 stores the denominator of its time base in 16 bits


@dataclass(frozen=True)
class SourceInfo:
    """What header and first frame of a source say; nothing of it is proven.

    track_index: the stream to use. width, height: pixels as coded, before rotation. fps: nominal rate, fit for MPEG-4.
    matrix, range: as tagged, or "unspecified". interlaced: so flagged. rotation: degrees against the clock.
    upright: ffmpeg filters that turn its pictures as they are to be seen. num_frames_from_header: None where the
    container does not say.
    """

    track_index: int
    codec: str
    width: int
    height: int
    sar: Fraction
    fps: Fraction
    matrix: str
    range: str
    pixel_format: str
    is_rgb: bool
    interlaced: bool
    rotation: float
    upright: tuple[Filter, ...]
    num_frames_from_header: int | None

    @property
    def matrix_read_as(self) -> str:
        """The matrix to read the source with, as `scale` names it.

        `auto` is the tag, or BT.601 without one; untagged HD is BT.709, as players assume (wider than 1279 or
        higher than 576 lines).
        """
        untagged_hd = self.matrix == "unspecified" and not self.is_rgb and (self.width >= 1280 or self.height > 576)
        return "bt709" if untagged_hd else "auto"

    @property
    def first_filters(self) -> tuple[Filter, ...]:
        """What makes upright, progressive pictures of the coded ones, one of each; nothing for most sources.

        Frames that are not flagged as interlaced pass the deinterlacer as they are. The size is made one before: the
        filters trust it, where the frame size changes on the way.
        """
        can_deinterlace = self.interlaced and self.width >= MIN_FIELD_WIDTH and self.height >= MIN_FIELD_HEIGHT
        steps = ((DEINTERLACE,) if can_deinterlace else ()) + self.upright
        return (("scale", {"w": self.width, "h": self.height}), *steps) if steps else ()


def probe(path: Path, deadline: Deadline = NO_DEADLINE) -> SourceInfo:
    """Read header and first frame of a source; of several video tracks the first that has a frame.

    Raises:
        VideoError: it is no video, has no video stream, is encrypted or too large.
    """
    with opened(path, deadline) as container:
        stream, frame = _first_frame(container, deadline)
        codec = stream.codec_context
        return SourceInfo(
            track_index=stream.index,
            codec=codec.name,
            width=codec.width,
            height=codec.height,
            sar=stream.sample_aspect_ratio or Fraction(1),
            fps=mpeg4_rate(stream.average_rate or stream.guessed_rate),
            matrix=MATRICES.get(codec.colorspace, "unspecified"),
            range=RANGES.get(codec.color_range, "unspecified"),
            pixel_format=codec.pix_fmt or "unknown",
            is_rgb=codec.format is not None and codec.format.is_rgb,
            interlaced=codec.field_order in INTERLACED_ORDERS or (frame is not None and frame.interlaced_frame),
            rotation=float(frame.rotation) if frame else 0.0,
            upright=_upright(frame),
            num_frames_from_header=stream.frames or None,
        )


def mpeg4_rate(rate: Fraction | None) -> Fraction:
    """The nearest rate whose time base MPEG-4 part 2 can store; 25 where there is none worth the name."""
    if rate is None or not 0 < rate <= MAX_FPS:
        return DEFAULT_FPS
    if max(rate.numerator, rate.denominator) <= MAX_TIME_BASE:
        return rate
    return rate.limit_denominator(MAX_TIME_BASE // math.ceil(rate)) or Fraction(1, MAX_TIME_BASE)


@dataclass(frozen=True)
class PacketCounts:
    """Packets of a track that say that they are encrypted, and such that have a hole: a long run of zeros."""

    num_encrypted: int
    num_with_holes: int


def count_bad_packets(path: Path, track_index: int, deadline: Deadline) -> PacketCounts:
    """Read a track without decoding: what is wrong with its packets may pass a decoder unnoticed."""
    num_encrypted = num_with_holes = 0
    with opened(path, deadline) as container:
        for packet in container.demux(container.streams[track_index]):
            deadline.check()
            num_encrypted += packet.has_sidedata("encryption_info")
            num_with_holes += HOLE in bytes(packet)
    return PacketCounts(num_encrypted, num_with_holes)


def _first_frame(container: InputContainer, deadline: Deadline) -> tuple[VideoStream, VideoFrame | None]:
    """The first video track that has a frame, and that frame; else the first track and None."""
    streams = [stream for stream in video_streams(container) if stream.codec_context is not None]
    if not streams:
        raise VideoError("no decoder knows the codec of its video track", "undecodable")
    for stream in streams:
        _require_sane_size(stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.thread_count = 1
    by_index = {stream.index: stream for stream in streams}
    found: dict[int, VideoFrame] = {}
    clear = {stream.index: not _says_encrypted(container, stream) for stream in streams}
    for packet in container.demux(streams):
        deadline.check()
        index = packet.stream_index
        clear[index] &= not packet.has_sidedata("encryption_info")
        if index not in found and clear[index]:
            found.update((index, frame) for frame in _decoded(by_index[index], packet)[:1])
        if streams[0].index in found:
            break
    if not found and not clear[streams[0].index]:
        raise VideoError("its video is encrypted: get a copy without DRM", "encrypted")
    best = next((stream for stream in streams if stream.index in found), streams[0])
    return best, found.get(best.index)


def _says_encrypted(container: InputContainer, stream: VideoStream) -> bool:
    """WebM names a key for the track, ASF a protection for the file."""
    return "enc_key_id" in stream.metadata or "ASF_Protection_Type" in container.metadata


def _decoded(stream: VideoStream, packet: Packet[Stream]) -> list[VideoFrame]:
    try:
        return stream.decode(packet)
    except av.FFmpegError:  # a packet that is refused costs itself
        return []


def _require_sane_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SOURCE_SIDE_PX or width * height > MAX_SOURCE_PIXELS:
        limit = f"{MAX_SOURCE_SIDE_PX} pixels a side and {MAX_SOURCE_PIXELS} in all"
        raise VideoError(f"announces frames of {width}x{height}, expected up to {limit}: scale it down", "too-large")


def _upright(frame: VideoFrame | None) -> tuple[Filter, ...]:
    """The display matrix as filters; only quarter turns and mirrors, a finer angle is left as it is."""
    stored = frame.side_data.get("DISPLAYMATRIX") if frame else None
    if not isinstance(stored, SideData):
        return ()
    xx, xy, _, yx, yy, *_ = struct.unpack_from("=9i", bytes(stored))
    is_turned = abs(xy) > abs(xx)
    mirrors_x, mirrors_y = (yx, xy) if is_turned else (xx, yy)
    steps: list[Filter] = [("sidedata", {"mode": "delete", "type": "DISPLAYMATRIX"})]
    if is_turned:
        steps.append(("transpose", {"dir": "cclock_flip"}))  # along the main diagonal
    if mirrors_x < 0:
        steps.append(("hflip", {}))
    if mirrors_y < 0:
        steps.append(("vflip", {}))
    return tuple(steps)
