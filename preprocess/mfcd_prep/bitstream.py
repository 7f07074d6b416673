"""What a bitstream really holds: picture types and the frame count; and cutting it, packet by packet."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import av
from av.video.frame import PictureType

from mfcd_core.errors import GopError, VideoError
from mfcd_prep.ffmpeg import LOCAL_VIDEO_ONLY, url_of
from mfcd_prep.output import output_faults
from mfcd_prep.process import NO_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from mfcd_prep.process import Deadline

ATTACHED_PICTURE = 0x400
# Refuse what breaks the syntax instead of concealing it, and skip the sums that cannot fail: measured on bit flips,
# the inverse transform finds nothing that reading the coefficients did not.
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode", "skip_idct": "all"}


def decode_picture_types(path: Path, deadline: Deadline = NO_DEADLINE) -> str:
    """Decode the first video track on one thread, strictly, and return one letter a frame: "IPPP...".

    Raises:
        VideoError: it cannot be opened or decoded to its end, or the decoder had to conceal damage.
    """
    letters: list[str] = []
    with opened(path, deadline) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = STRICT
        for frame in container.decode(stream):
            deadline.check()
            if frame.is_corrupt:
                raise VideoError(f"frame {len(letters)} is damaged: encode the video again", "damaged")
            letters.append(PictureType(frame.pict_type).name[:1])
    return "".join(letters)


def count_packets(path: Path) -> tuple[int, tuple[int, int]]:
    """Coded frames of the first video track, and their width and height as the header has them (0: it does not say).

    Decodes nothing. Raises VideoError.
    """
    with opened(path) as container:
        stream = video_stream(container)
        codec = stream.codec_context
        size = (codec.width, codec.height) if codec else (0, 0)
        return sum(1 for packet in container.demux(stream) if packet.size), size


def check_gop_grid(types: str, gop_size: int) -> None:
    """Raise GopError where picture types (as `decode_picture_types`) leave the grid of one I and gop_size - 1 P.

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
        output_faults(target.parent),
        av.open(url_of(target), "w", "mp4", container_options={"fflags": "+bitexact"}) as out,
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
def opened(path: Path, deadline: Deadline = NO_DEADLINE) -> Iterator[InputContainer]:
    """Open a video with no demuxer but real video containers and no protocol but files.

    Raises:
        VideoError: it cannot be read as a video.
        DeadlineError: reading took too long.
    """
    timeout = deadline.remaining_seconds()
    try:
        with av.open(url_of(path), options=LOCAL_VIDEO_ONLY, timeout=timeout, metadata_errors="replace") as container:
            yield container
    except av.FFmpegError as error:
        deadline.check()
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"cannot be read as a video: {reason}", "not-a-video") from None


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The video tracks; cover pictures are none. Raises VideoError where there is no track."""
    streams = [stream for stream in container.streams.video if not stream.disposition & ATTACHED_PICTURE]
    if not streams:
        raise VideoError("no video stream in the file", "no-video-stream")
    return streams


def video_stream(container: InputContainer) -> VideoStream:
    """The first video track. Raises VideoError."""
    return video_streams(container)[0]
