"""Decoding an encoded video once: planes, picture types and codec motion vectors, through PyAV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from mfcd_core.blocks import MOTION_VECTOR, blocks_from_vectors
from mfcd_core.errors import VideoError
from mfcd_core.motion import NO_BLOCKS
from mfcd_prep.bitstream import opened, video_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import av
    from av.video.plane import VideoPlane
    from numpy.typing import NDArray


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
    if frame.format.name != "yuv420p":
        raise VideoError(f"pixel format {frame.format.name}, expected yuv420p; run mfcd-prep encode first")
    if frame.is_corrupt:
        raise VideoError("the decoder concealed damage in the stream; encode the video again")
    picture_type = PictureType(frame.pict_type).name
    vectors = None if picture_type == "B" else frame.side_data.get("MOTION_VECTORS")
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


def _sheet(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
