"""What a video file says of itself, and what its bitstream really holds: picture types and the frame count."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.video.frame import PictureType

from mfcd_core.errors import GopError, VideoError
from mfcd_prep.ffmpeg import LOCAL_VIDEO_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.video.stream import VideoStream

# Names of FFmpeg's AVColorSpace and AVColorRange, as its filters spell them.
MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc"}
RANGES = {1: "tv", 2: "pc"}
DEFAULT_FPS = Fraction(25)
MAX_FPS = 1000
MAX_TIME_BASE = 65535  # MPEG-4 part 2 stores the denominator of its time base in 16 bits
ATTACHED_PICTURE = 0x400


@dataclass(frozen=True)
class SourceInfo:
    """What the header of a source says; nothing of it is proven.

    width, height: pixels as coded, before rotation. fps: nominal rate, fit for MPEG-4. matrix, range: as tagged, or
    "unspecified". num_frames_from_header: None where the container does not say.
    """

    codec: str
    width: int
    height: int
    sar: Fraction
    fps: Fraction
    matrix: str
    range: str
    pixel_format: str
    is_rgb: bool
    num_frames_from_header: int | None

    @property
    def matrix_read_as(self) -> str:
        """The matrix to read the source with, as `scale` names it.

        `auto` is the tag, or BT.601 without one; untagged HD is BT.709, as players assume (wider than 1279 or
        higher than 576 lines).
        """
        untagged_hd = self.matrix == "unspecified" and not self.is_rgb and (self.width >= 1280 or self.height > 576)
        return "bt709" if untagged_hd else "auto"


def probe(path: Path) -> SourceInfo:
    """Read the header of a source, with no demuxer but real video containers and no protocol but files.

    Raises:
        VideoError: it is no video, or has no video stream.
    """
    with opened(path) as container:
        stream = video_stream(container)
        codec = stream.codec_context
        return SourceInfo(
            codec=codec.name,
            width=codec.width,
            height=codec.height,
            sar=stream.sample_aspect_ratio or Fraction(1),
            fps=mpeg4_rate(stream.average_rate or stream.guessed_rate),
            matrix=MATRICES.get(codec.colorspace, "unspecified"),
            range=RANGES.get(codec.color_range, "unspecified"),
            pixel_format=codec.pix_fmt or "unknown",
            is_rgb=codec.format is not None and codec.format.is_rgb,
            num_frames_from_header=stream.frames or None,
        )


def mpeg4_rate(rate: Fraction | None) -> Fraction:
    """The nearest rate whose time base MPEG-4 part 2 can store; 25 where there is none worth the name."""
    if rate is None or not 0 < rate <= MAX_FPS:
        return DEFAULT_FPS
    if max(rate.numerator, rate.denominator) <= MAX_TIME_BASE:
        return rate
    return rate.limit_denominator(MAX_TIME_BASE // math.ceil(rate)) or Fraction(1, MAX_TIME_BASE)


def count_frames_in_header(path: Path) -> int:
    """Frames that the container of an encoded video promises, without decoding one."""
    with opened(path) as container:
        return video_stream(container).frames


def read_picture_types(path: Path) -> str:
    """Decode the first video stream on one thread and return one letter a frame: "IPPP...".

    Raises:
        VideoError: it cannot be opened or decoded to its end.
    """
    with opened(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        return "".join(PictureType(frame.pict_type).name[:1] for frame in container.decode(stream))


def count_packets(path: Path) -> int:
    """Number of coded frames of the first video track, without decoding. Raises VideoError."""
    with opened(path) as container:
        return sum(1 for packet in container.demux(video_stream(container)) if packet.size)


def check_gop_grid(types: str, gop_size: int) -> None:
    """Raise GopError where picture types (as `read_picture_types`) leave the grid of one I and gop_size - 1 P.

    The last GOP may be short; an empty video is an error.
    """
    if not types:
        raise GopError(f"no frames, expected GOPs of {gop_size}: encode the video again")
    for index, got in enumerate(types):
        expected = "P" if index % gop_size else "I"
        if got != expected:
            raise GopError(f"frame {index} is {got}, expected {expected} on a grid of {gop_size}: run mfcd-prep encode")


def cut_to(source: Path, target: Path, num_frames: int) -> None:
    """Copy the first `num_frames` packets of an encoded video to `target`, as mp4; these are its first frames."""
    with (
        opened(source) as container,
        av.open(_url(target), "w", "mp4", container_options={"fflags": "+bitexact"}) as out,
    ):
        stream = video_stream(container)
        copy = out.add_stream_from_template(stream)
        copy.time_base = stream.time_base
        for index, packet in enumerate(container.demux(stream)):
            if index == num_frames:
                break
            packet.stream = copy
            out.mux(packet)


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a video with no demuxer but real video containers and no protocol but files. Raises VideoError."""
    try:
        with av.open(_url(path), options=LOCAL_VIDEO_ONLY) as container:
            yield container
    except (av.FFmpegError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"cannot be read as a video: {reason}") from None


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is no cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & ATTACHED_PICTURE:
            return stream
    raise VideoError("no video stream in the file")


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"
