"""Tracing every pixel of a GOP back to its I-frame (DESIGN 2, trace)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import inlined, jit

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
    _copy(previous.reshape(-1), sources.reshape(-1))
    height, width = previous.shape[1], previous.shape[2]
    changed = np.zeros((width >> 3) + 1, np.int32)  # for every 8 columns: the row below all that blocks have changed
    for i in range(blocks.shape[0]):
        rows = _clip(blocks[i, 0], blocks[i, 2], height)
        left, right = _clip(blocks[i, 1], blocks[i, 3], width)
        dy, dx = blocks[i, 4], blocks[i, 5]
        cells = (left >> 3, (right + 7) >> 3)
        still = dy == 0 and dx == 0 and _is_unchanged(changed, cells, rows[0])
        if rows[0] >= rows[1] or left >= right or still:
            continue
        for cell in range(*cells):
            changed[cell] = max(changed[cell], rows[1])
        # columns whose source lies in the picture; to their left and right it is the edge's
        start = min(max(left, (dx + 3) >> 2), right)
        stop = max(min(right, width + (dx >> 2)), start)
        _shift(previous, sources, rows, (start, stop), dy, dx)
        for x in range(left, start):
            _shift(previous, sources, rows, (x, x + 1), dy, 4 * x)
        for x in range(stop, right):
            _shift(previous, sources, rows, (x, x + 1), dy, 4 * (x - width + 1))


@jit
def _copy(values: NDArray[Any], target: NDArray[Any]) -> None:
    for i in range(values.size):  # numba copies arrays of several axes element by element
        target[i] = values[i]


@inlined
def _clip(start: int, size: int, limit: int) -> tuple[int, int]:
    return max(start, 0), min(start + size, limit)


@inlined
def _is_unchanged(changed: NDArray[np.int32], cells: tuple[int, int], top: int) -> bool:
    """No earlier block has changed anything in these cells at row `top` or below."""
    return not (changed[cells[0] : cells[1]] > top).any()


@jit
def _shift(
    previous: NDArray[np.int16],
    sources: NDArray[np.int16],
    rows: tuple[int, int],
    columns: tuple[int, int],
    dy: int,
    dx: int,
) -> None:
    """S_t(p) = clamp(S_{t-1}(q) + (s - q)); no source s = p - d lies to the left or right of the picture."""
    edge_y, edge_x = 4 * (previous.shape[1] - 1), 4 * (previous.shape[2] - 1)
    max_y, max_x = np.int32(edge_y), np.int32(edge_x)
    num_columns, left = np.uint64(columns[1] - columns[0]), np.uint64(columns[0])  # unsigned: no negative indices
    kx = (dx + 1) >> 2
    left_before, fraction_x = np.uint64(columns[0] - kx), np.int32(4 * kx - dx)
    for y in range(rows[0], rows[1]):
        sy = min(max(4 * y - dy, 0), edge_y)
        qy = (sy + 2) >> 2
        row, row_before, fraction_y = np.uint64(y), np.uint64(qy), np.int32(sy - 4 * qy)
        for i in range(num_columns):
            source_y = np.int32(previous[0, row_before, left_before + i]) + fraction_y
            source_x = np.int32(previous[1, row_before, left_before + i]) + fraction_x
            sources[0, row, left + i] = min(max(source_y, np.int32(0)), max_y)
            sources[1, row, left + i] = min(max(source_x, np.int32(0)), max_x)


@jit
def accumulate_motion(sources: NDArray[np.int16], motion: NDArray[Any]) -> None:
    """Write D_t(p) = p - floor(S_t(p) + 1/2) into `motion`, (2, H, W) whole pixels, order (dy, dx).

    `motion` is int16, or uint8, which keeps D modulo 256.
    """
    half = to_pixels = np.int16(2)
    for y in range(np.uint64(sources.shape[1])):
        for x in range(np.uint64(sources.shape[2])):  # every step in 16 bits, so that they fill the vectors
            look_up_y = np.int16(np.int16(sources[0, y, x] + half) >> to_pixels)
            look_up_x = np.int16(np.int16(sources[1, y, x] + half) >> to_pixels)
            motion[0, y, x] = np.int16(np.int16(y) - look_up_y)
            motion[1, y, x] = np.int16(np.int16(x) - look_up_x)
