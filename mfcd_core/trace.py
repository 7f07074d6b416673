"""Tracing every pixel of a GOP back to its I-frame (DESIGN 2, trace)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.kernels import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def identity_sources(height_px: int, width_px: int) -> NDArray[np.int16]:
    """S_0(p) = p: source positions of the I-frame's own pixels, (2, H, W) int16 in quarter pixels, order (y, x)."""
    rows, columns = np.mgrid[:height_px, :width_px]
    return np.stack([rows, columns]).astype(np.int16) * np.int16(4)


@jit
def trace_frame(previous: NDArray[np.int16], blocks: NDArray[np.int32], sources: NDArray[np.int16]) -> None:
    """Write S_t into `sources` from S_{t-1} in `previous`: both (2, H, W) int16 in quarter pixels, order (y, x).

    `blocks` is (N, 6) int32 as `blocks_from_vectors` gives it; a later block wins where two overlap, parts outside
    the picture are ignored, and a pixel without a block keeps its source (d = 0).
    """
    height, width = previous.shape[1], previous.shape[2]
    sources[:] = previous
    for i in range(blocks.shape[0]):
        top, left = max(blocks[i, 0], 0), max(blocks[i, 1], 0)
        bottom = min(blocks[i, 0] + blocks[i, 2], height)
        right = min(blocks[i, 1] + blocks[i, 3], width)
        dy, dx = blocks[i, 4], blocks[i, 5]
        for y in range(top, bottom):
            sy = min(max(4 * y - dy, 0), 4 * (height - 1))
            qy = (sy + 2) >> 2
            fy = sy - 4 * qy
            for x in range(left, right):
                sx = min(max(4 * x - dx, 0), 4 * (width - 1))
                qx = (sx + 2) >> 2
                sources[0, y, x] = min(max(previous[0, qy, qx] + fy, 0), 4 * (height - 1))
                sources[1, y, x] = min(max(previous[1, qy, qx] + sx - 4 * qx, 0), 4 * (width - 1))


@jit
def accumulate_motion(sources: NDArray[np.int16], motion: NDArray[np.int16]) -> None:
    """Write D_t(p) = p - floor(S_t(p) + 1/2) into `motion`, (2, H, W) int16 whole pixels, order (dy, dx)."""
    for y in range(sources.shape[1]):
        for x in range(sources.shape[2]):
            motion[0, y, x] = y - ((sources[0, y, x] + 2) >> 2)
            motion[1, y, x] = x - ((sources[1, y, x] + 2) >> 2)
