"""Decoding an encoded video once: pictures, their types and codec motion vectors, by one of two decoders."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from mfcd_core.blocks import MOTION_VECTOR, blocks_from_vectors
from mfcd_core.errors import UsageError, VideoError
from mfcd_core.motion import NO_BLOCKS
from mfcd_prep import mv_extractor
from mfcd_prep.bitstream import opened, video_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import av
    from av.sidedata.motionvectors import MotionVectors
    from av.video.plane import VideoPlane
    from numpy.typing import NDArray

PICTURE_TYPES = {member.value: member.name for member in PictureType}


@dataclass(frozen=True)
class DecodedFrame:
    """One decoded picture; valid until the next one is asked for.

    picture_type: "I", "P" or "B". sheets: one (h, >= w) uint8 array a channel of a planar picture (Y, U, V), or one
    (H, >= 3 W) array of interleaved RGB; rows may be padded. blocks: (N, 6) int32, see `blocks_from_vectors`; none of a
    B picture, whose vectors point at two frames.
    """

    picture_type: str
    width_px: int
    height_px: int
    sheets: tuple[NDArray[np.uint8], ...]
    blocks: NDArray[np.int32]


def iter_frames(path: Path, pixel_format: str, trace: str) -> Iterator[DecodedFrame]:
    """Decode the first video track of `path` on one thread, frame by frame, with motion as `trace` wants it.

    Raises VideoError when the file cannot be opened or decoded, or its planes are not 8-bit YUV 4:2:0.
    """
    reformatter = VideoReformatter()
    with opened(path) as container:
        stream = video_stream(container)
        stream.thread_type = "NONE"
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            yield _to_decoded(frame, pixel_format, trace, reformatter)


def _to_decoded(frame: av.VideoFrame, pixel_format: str, trace: str, reformatter: VideoReformatter) -> DecodedFrame:
    _check_picture(frame)
    picture_type = PICTURE_TYPES[frame.pict_type]
    vectors = None if picture_type == "B" else vectors_of(frame)
    picture = reformatter.reformat(frame, format="rgb24") if pixel_format == "rgb24" else frame
    return DecodedFrame(
        picture_type=picture_type,
        width_px=frame.width,
        height_px=frame.height,
        sheets=tuple(_sheet(plane) for plane in picture.planes),
        blocks=NO_BLOCKS
        if vectors is None
        else blocks_from_vectors(np.frombuffer(memoryview(vectors), MOTION_VECTOR), trace),
    )


def vectors_of(frame: av.VideoFrame) -> MotionVectors | None:
    """The motion vectors that the decoder exported with a frame; None of an I-frame.

    Not by `frame.side_data`: the frame keeps that, and it the frame, so that every picture would stay in memory until
    the garbage collector looks at the oldest generation (900 MB after 15,000 GOPs).
    """
    container: Any = SideDataContainer  # PyAV's stub lacks its argument
    found: MotionVectors | None = container(frame).get("MOTION_VECTORS")
    return found


def _check_picture(frame: av.VideoFrame) -> None:
    if frame.format.name != "yuv420p":
        reason = f"pixel format {frame.format.name}, expected yuv420p; run mfcd-prep encode first"
        raise VideoError(reason, "other-format")
    if frame.is_corrupt:
        raise VideoError("the decoder concealed damage in the stream; encode the video again", "damaged")


def _sheet(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.ndarray((plane.height, plane.line_size), np.uint8, memoryview(plane))


def iter_frames_of_mv_extractor(path: Path, pixel_format: str, trace: str) -> Iterator[DecodedFrame]:
    """As `iter_frames`; pictures (RGB alone) and vectors are those of motion-vector-extractor, an FFmpeg of its own.

    That one, FFmpeg 4.1.3, says nothing of damage that it conceals: PyAV decodes beside it, and both have to agree on
    types, sizes and the number of pictures. Raises VideoError, also for what is neither MPEG-4 nor H.264 in an mp4 or
    avi, and UsageError for planes or without the package.
    """
    require_decoder("mv-extractor", pixel_format)
    with opened(path) as container, closing(mv_extractor.iter_reads(path)) as reads:
        stream = video_stream(container)
        stream.thread_type = "NONE"
        if stream.codec_context.name not in mv_extractor.CODECS:
            reason = f"codec {stream.codec_context.name}, expected MPEG-4 or H.264; run mfcd-prep encode first"
            raise VideoError(reason, "other-format")
        for index, (frame, read) in enumerate(zip_longest(container.decode(stream), reads)):
            if frame is None or read is None:
                reason = f"PyAV and mv-extractor do not agree that it has {index} frames; encode it again"
                raise VideoError(reason, "damaged")
            yield _agreed(index, frame, read, trace)


def _agreed(index: int, frame: av.VideoFrame, read: mv_extractor.Read, trace: str) -> DecodedFrame:
    _check_picture(frame)
    height, width = read.rgb.shape[:2]
    got = (read.picture_type, width, height)
    expected = (PICTURE_TYPES[frame.pict_type], frame.width, frame.height)
    if got != expected:
        reason = f"frame {index} is {got} to mv-extractor and {expected} to PyAV; encode it again"
        raise VideoError(reason, "damaged")
    blocks = NO_BLOCKS if read.picture_type == "B" else blocks_from_vectors(read.vectors, trace)
    return DecodedFrame(*got, sheets=(read.rgb.reshape(height, width * 3),), blocks=blocks)


@dataclass(frozen=True)
class Decoder:
    """One way to decode: `iter_frames(path, pixel_format, trace)`, the pixel formats it gives, and its package."""

    iter_frames: Callable[[Path, str, str], Iterator[DecodedFrame]]
    pixel_formats: tuple[str, ...]
    package: str


DECODERS = {
    "pyav": Decoder(iter_frames, ("yuv420p", "rgb24"), "av"),
    "mv-extractor": Decoder(iter_frames_of_mv_extractor, ("rgb24",), "motion-vector-extractor"),
}


def require_decoder(name: str, pixel_format: str) -> Decoder:
    """The decoder of that name. Raises UsageError where it is unknown, not installed, or gives other pixels."""
    if name not in DECODERS:
        raise UsageError(f"decoder {name!r}: expected one of {', '.join(DECODERS)}")
    if name == "mv-extractor":
        mv_extractor.require_package()
    if pixel_format not in DECODERS[name].pixel_formats:
        expected = " or ".join(DECODERS[name].pixel_formats)
        raise UsageError(f"pixel format {pixel_format}: {name} gives {expected} alone; use that or --decoder pyav")
    return DECODERS[name]
