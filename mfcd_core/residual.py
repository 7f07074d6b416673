"""Accumulated residuals on any plane, quantized for storage (Eq. 2; DESIGN 2, stored residual)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import inlined, jit
from mfcd_core.trace import CELL_PX

if TYPE_CHECKING:
    from numpy.typing import NDArray


@jit
def warp_plane(
    iframe: NDArray[np.uint8],
    sources: NDArray[np.int16],
    changed: NDArray[np.bool_],
    shift: int,
    num_channels: int,
    warped: NDArray[np.uint8],
) -> None:
    """Write U_0(p - D_t(p)) into `warped` where p lies in a cell that `changed` has, see `trace_frame`.

    `iframe` and `warped`: (sheets, h, w * num_channels), channels interleaved. `sources`: S_t of luma; a sample at
    (y, x) of a plane subsampled by 2^shift (0 or 1) uses the look-up of luma (y << shift, x << shift), shifted back.
    """
    num_sheets, height, row_size = warped.shape
    levels = iframe.reshape(num_sheets, height * row_size)
    cell_size, width = CELL_PX >> shift, row_size // num_channels
    look_up = np.empty(width, np.int32)
    for cell_y in range(changed.shape[0]):
        end = 0
        while end < changed.shape[1]:
            start = _find(changed[cell_y], end, False)  # noqa: FBT003 - numba
            end = _find(changed[cell_y], start, True)  # noqa: FBT003 - numba
            run = (start * cell_size, min(end * cell_size, width))
            for y in range(cell_y * cell_size, min((cell_y + 1) * cell_size, height)):
                _look_up_row(sources, y, shift, run, width, look_up)
                _gather_row(levels, look_up, y, run, num_channels, warped)


@inlined
def _find(cells: NDArray[np.bool_], start: int, passed: bool) -> int:  # noqa: FBT001 - numba
    """The first cell from `start` on that is not `passed`, or their number."""
    while start < cells.size and cells[start] == passed:
        start += 1
    return start


@inlined
def _look_up_row(
    sources: NDArray[np.int16], y: int, shift: int, run: tuple[int, int], width: int, look_up: NDArray[np.int32]
) -> None:
    """Which pixel of the flat plane each one of the run in row `y` comes from."""
    half, to_luma, to_chroma, row_size = np.int16(2), np.int16(2), np.int16(3), np.int32(width)
    row, start, num_columns = np.uint64(y), np.uint64(run[0]), np.uint64(max(run[1] - run[0], 0))
    if shift == 0:  # apart, because only loops of a known stride are vectorised, and in 16 bits as far as they can be
        for x in range(num_columns):
            source_y = np.int16(np.int16(sources[0, row, start + x] + half) >> to_luma)
            source_x = np.int16(np.int16(sources[1, row, start + x] + half) >> to_luma)
            look_up[x] = np.int32(source_y) * row_size + np.int32(source_x)
    else:
        for x in range(num_columns):
            source_y = np.int16(np.int16(sources[0, row + row, start + start + x + x] + half) >> to_chroma)
            source_x = np.int16(np.int16(sources[1, row + row, start + start + x + x] + half) >> to_chroma)
            look_up[x] = np.int32(source_y) * row_size + np.int32(source_x)


@inlined
def _gather_row(
    levels: NDArray[np.uint8],
    look_up: NDArray[np.int32],
    y: int,
    run: tuple[int, int],
    num_channels: int,
    warped: NDArray[np.uint8],
) -> None:
    row, start, num_columns = np.uint64(y), np.uint64(run[0]), np.uint64(max(run[1] - run[0], 0))
    if num_channels == 1:
        for sheet in range(np.uint64(levels.shape[0])):
            for x in range(num_columns):
                warped[sheet, row, start + x] = levels[sheet, np.uint32(look_up[x])]
    else:
        channels = np.uint64(num_channels)
        for x in range(num_columns):
            for channel in range(channels):
                place = np.uint64(look_up[x]) * channels + channel
                warped[0, row, (start + x) * channels + channel] = levels[0, place]


@jit
def residual_plane(
    current: tuple[NDArray[np.uint8], ...], warped: NDArray[np.uint8], step: int, residual: NDArray[Any]
) -> None:
    """Write R_t(p) = U_t(p) - U_0(p - D_t(p)), divided by `step` (1, 2 or 4), nearest, ties toward zero.

    `current`: one (h, >= w * num_channels) uint8 a sheet of the plane, rows possibly padded, channels interleaved.
    `warped`: see `warp_plane`. `residual`, int8 or int16, of the same shape, takes them.
    """
    for sheet in range(residual.shape[0]):
        for y in range(residual.shape[1]):
            now, then, out = current[sheet][y], warped[sheet, y], residual[sheet, y]
            if step == 1:  # apart, because loops are vectorised well where shifts are known when they are compiled
                _quantize_row(now, then, 0, 0, 0, out)
            elif step == 2:
                _quantize_row(now, then, 0, 1, 1, out)
            else:
                _quantize_row(now, then, 1, 1, 2, out)


@inlined
def _quantize_row(
    current: NDArray[np.uint8],
    warped: NDArray[np.uint8],
    bias: int,
    below_zero: int,
    shift: int,
    residual: NDArray[Any],
) -> None:
    """A row: floor((d + bias + below_zero * [d < 0]) / 2^shift) of differences d, in 16 bits; bias = step / 2 - 1."""
    for i in range(np.uint64(warped.size)):
        difference = np.int16(np.int16(current[i]) - np.int16(warped[i]))
        extra = np.int16(np.int16(difference < np.int16(0)) & np.int16(below_zero))
        residual[i] = np.int16(np.int16(difference + np.int16(bias)) + extra) >> np.int16(shift)
