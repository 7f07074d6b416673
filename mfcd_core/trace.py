"""Tracing every pixel of a GOP back to its I-frame (DESIGN 2, trace)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import inlined, jit

if TYPE_CHECKING:
    from numpy.typing import NDArray


CELL_PX = 16  # a macroblock


def no_cells(height_px: int, width_px: int) -> NDArray[np.bool_]:
    """A mask of the cells of a picture, all false; those at its right and lower edge may be cut."""
    return np.zeros((-(-height_px // CELL_PX), -(-width_px // CELL_PX)), np.bool_)


def identity_sources(height_px: int, width_px: int) -> NDArray[np.int16]:
    """S_0(p) = p: source positions of the I-frame's own pixels, (2, H, W) int16 in quarter pixels, order (y, x)."""
    rows, columns = np.mgrid[:height_px, :width_px]
    return np.stack([rows, columns]).astype(np.int16) * np.int16(4)


@jit
def trace_frame(
    sources: NDArray[np.int16], blocks: NDArray[np.int32], traced: NDArray[np.int16], changed: NDArray[np.bool_]
) -> None:
    """Bring `sources` from S_{t-1} to S_t: (2, H, W) int16 in quarter pixels, order (y, x).

    `blocks` is (N, 6) int32 as `blocks_from_vectors` gives it; a later block wins where two overlap, parts outside
    the picture are ignored, and a pixel without a block keeps its source (d = 0). `traced` is memory like `sources`.
    `changed`, as `no_cells` gives it, says in which cells of CELL_PX x CELL_PX pixels sources may have changed.
    """
    height, width = sources.shape[1], sources.shape[2]
    changed[:] = False
    moves = np.zeros(blocks.shape[0], np.bool_)
    for i in range(blocks.shape[0]):
        rows = _clip(blocks[i, 0], blocks[i, 2], height)
        columns = _clip(blocks[i, 1], blocks[i, 3], width)
        dy, dx = blocks[i, 4], blocks[i, 5]
        cells = changed[rows[0] // CELL_PX : -(-rows[1] // CELL_PX), columns[0] // CELL_PX : -(-columns[1] // CELL_PX)]
        if rows[0] >= rows[1] or columns[0] >= columns[1] or (dy == 0 and dx == 0 and not cells.any()):
            continue
        moves[i] = cells[:] = True
        # columns whose source lies in the picture; to their left and right it is the edge's
        start = min(max(columns[0], (dx + 3) >> 2), columns[1])
        stop = max(min(columns[1], width + (dx >> 2)), start)
        _shift(sources, traced, rows, (start, stop), dy, dx)
        for x in range(columns[0], start):
            _shift(sources, traced, rows, (x, x + 1), dy, 4 * x)
        for x in range(stop, columns[1]):
            _shift(sources, traced, rows, (x, x + 1), dy, 4 * (x - width + 1))
    for i in range(blocks.shape[0]):  # not before all are traced: a block may need what another one moves
        if moves[i]:
            rows, columns = _clip(blocks[i, 0], blocks[i, 2], height), _clip(blocks[i, 1], blocks[i, 3], width)
            _copy(traced, rows, columns, sources)


@inlined
def _clip(start: int, size: int, limit: int) -> tuple[int, int]:
    return max(start, 0), min(start + size, limit)


@jit
def _copy(values: NDArray[np.int16], rows: tuple[int, int], columns: tuple[int, int], out: NDArray[np.int16]) -> None:
    left, num_columns = np.uint64(columns[0]), np.uint64(columns[1] - columns[0])  # unsigned: no negative indices
    for y in range(np.uint64(rows[0]), np.uint64(rows[1])):
        for i in range(num_columns):
            out[0, y, left + i] = values[0, y, left + i]
            out[1, y, left + i] = values[1, y, left + i]


@jit
def _shift(
    sources: NDArray[np.int16],
    traced: NDArray[np.int16],
    rows: tuple[int, int],
    columns: tuple[int, int],
    dy: int,
    dx: int,
) -> None:
    """S_t(p) = clamp(S_{t-1}(q) + (s - q)); no source s = p - d lies to the left or right of the picture."""
    edge_y, edge_x = 4 * (sources.shape[1] - 1), 4 * (sources.shape[2] - 1)
    max_y, max_x, zero = np.int16(edge_y), np.int16(edge_x), np.int16(0)  # all in 16 bits: they fill the vectors
    num_columns, left = np.uint64(columns[1] - columns[0]), np.uint64(columns[0])  # unsigned: no negative indices
    kx = (dx + 1) >> 2
    left_before, fraction_x = np.uint64(columns[0] - kx), np.int16(4 * kx - dx)
    for y in range(rows[0], rows[1]):
        sy = min(max(4 * y - dy, 0), edge_y)
        qy = (sy + 2) >> 2
        row, row_before, fraction_y = np.uint64(y), np.uint64(qy), np.int16(sy - 4 * qy)
        for i in range(num_columns):
            source_y = np.int16(sources[0, row_before, left_before + i] + fraction_y)
            source_x = np.int16(sources[1, row_before, left_before + i] + fraction_x)
            traced[0, row, left + i] = min(max(source_y, zero), max_y)
            traced[1, row, left + i] = min(max(source_x, zero), max_x)


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
