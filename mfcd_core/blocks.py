"""FFmpeg's motion vectors as blocks in quarter pixels (DESIGN 2, trace)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.errors import UsageError, VideoError
from mfcd_core.kernels import jit
from mfcd_core.motion import QUARTER, TRACES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# AVMotionVector, as libavutil lays it out in memory.
MOTION_VECTOR = np.dtype(
    [
        ("source", "i4"),
        ("w", "u1"),
        ("h", "u1"),
        ("src_x", "i2"),
        ("src_y", "i2"),
        ("dst_x", "i2"),
        ("dst_y", "i2"),
        ("flags", "u8"),
        ("motion_x", "i4"),
        ("motion_y", "i4"),
        ("motion_scale", "u2"),
    ],
    align=True,
)


def blocks_from_vectors(vectors: NDArray[Any], trace: str) -> NDArray[np.int32]:
    """Blocks of one P-frame, (N, 6) int32: top, left, height, width in pixels, then dy, dx in quarter pixels.

    `vectors` is FFmpeg's list, (N,) MOTION_VECTOR (dst_x, dst_y: block centres; motion_x, motion_y in 1/motion_scale
    pixels). The block came from p - d; FFmpeg's motion points at the source, hence the sign. `integer` first truncates
    d toward zero to whole pixels, as CoViAR does. Raises VideoError where quarter pixels cannot hold the vectors.
    """
    if trace not in TRACES:
        raise UsageError(f"trace {trace!r}: expected one of {', '.join(TRACES)}")
    blocks = np.empty((len(vectors), 6), np.int32)
    num_usable = _fill_blocks(vectors, trace == "integer", blocks)
    if num_usable == len(vectors):
        return blocks
    if vectors["source"][num_usable] > 0:
        raise VideoError("a block points at a future frame: expected I- and P-frames; use mfcd-prep encode first")
    scale = vectors["motion_scale"][num_usable]
    raise VideoError(f"motion in 1/{scale} pixels: expected 1/1, 1/2 or 1/4; use mfcd-prep encode first")


@jit
def _fill_blocks(vectors: NDArray[Any], whole_pixels: bool, blocks: NDArray[np.int32]) -> int:  # noqa: FBT001 - numba
    """Fill `blocks` up to the first vector that cannot be used; returns its index, or the number of vectors."""
    for i in range(len(vectors)):
        vector, block = vectors[i], blocks[i]
        scale = vector.motion_scale
        if vector.source > 0 or scale not in (1, 2, 4):
            return i
        block[0], block[1] = vector.dst_y - (vector.h >> 1), vector.dst_x - (vector.w >> 1)
        block[2], block[3] = vector.h, vector.w
        to_quarters = QUARTER >> (scale >> 1)  # QUARTER / scale; divisions would take most of the time
        dy, dx = -vector.motion_y * to_quarters, -vector.motion_x * to_quarters
        block[4], block[5] = (_to_whole(dy), _to_whole(dx)) if whole_pixels else (dy, dx)
    return len(vectors)


@jit
def _to_whole(quarters: int) -> int:
    """Without the fraction: truncated toward zero."""
    return quarters // QUARTER * QUARTER if quarters > 0 else -(-quarters // QUARTER * QUARTER)
