"""Accumulated residuals on any plane, quantized for storage (Eq. 2; DESIGN 2, stored residual)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import inlined, jit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@jit
def residual_plane(
    current: tuple[NDArray[np.uint8], ...],
    iframe: NDArray[np.uint8],
    sources: NDArray[np.int16],
    shift: int,
    num_channels: int,
    step: int,
    residual: NDArray[Any],
) -> None:
    """Write R_t(p) = U_t(p) - U_0(p - D_t(p)), divided by `step`, nearest, ties toward zero, into `residual`.

    `current`: one (h, >= w * num_channels) uint8 a sheet of the plane, rows possibly padded, channels interleaved.
    `iframe` and `residual`, int8 or int16: (sheets, h, w * num_channels). `sources`: S_t of luma as `trace_frame` gives
    it; a sample at (y, x) of a plane subsampled by 2^shift (0 or 1) uses the look-up of luma (y << shift, x << shift),
    shifted back.
    """
    num_sheets, height, row_size = residual.shape
    levels = iframe.reshape(num_sheets, height * row_size)
    look_up = np.empty(row_size // num_channels, np.int32)
    warped = np.empty(row_size, np.uint8)
    for y in range(height):  # three loops a row, so that all but the gather are vectorised
        _look_up_row(sources, y, shift, look_up)
        for sheet in range(num_sheets):
            _gather_row(levels[sheet], look_up, num_channels, warped)
            quantize_row(current[sheet][y], warped, step, residual[sheet, y])


@inlined
def _look_up_row(sources: NDArray[np.int16], y: int, shift: int, look_up: NDArray[np.int32]) -> None:
    """Which pixel of the flat plane each one of row `y` comes from."""
    rows, columns = sources[0, y << shift], sources[1, y << shift]
    half, to_luma, to_chroma, width = np.int16(2), np.int16(2), np.int16(3), np.int32(look_up.size)
    if shift == 0:  # apart, because only loops of a known stride are vectorised, and in 16 bits as far as they can be
        for x in range(np.uint64(look_up.size)):
            source_y = np.int16(np.int16(rows[x] + half) >> to_luma)
            source_x = np.int16(np.int16(columns[x] + half) >> to_luma)
            look_up[x] = np.int32(source_y) * width + np.int32(source_x)
    else:
        for x in range(np.uint64(look_up.size)):
            source_y = np.int16(np.int16(rows[2 * x] + half) >> to_chroma)
            source_x = np.int16(np.int16(columns[2 * x] + half) >> to_chroma)
            look_up[x] = np.int32(source_y) * width + np.int32(source_x)


@inlined
def _gather_row(
    levels: NDArray[np.uint8], look_up: NDArray[np.int32], num_channels: int, warped: NDArray[np.uint8]
) -> None:
    if num_channels == 1:
        for x in range(np.uint64(look_up.size)):
            warped[x] = levels[np.uint32(look_up[x])]
    else:
        target = np.uint64(0)
        for x in range(np.uint64(look_up.size)):
            for channel in range(np.uint64(num_channels)):
                warped[target + channel] = levels[np.uint64(look_up[x]) * np.uint64(num_channels) + channel]
            target += np.uint64(num_channels)


@inlined
def quantize_row(current: NDArray[np.uint8], warped: NDArray[np.uint8], step: int, residual: NDArray[Any]) -> None:
    """One row: the difference d divided by `step` (1, 2 or 4), nearest, ties toward zero."""
    if step == 1:  # apart, because loops are vectorised well where shifts are known when they are compiled
        _quantize_row(current, warped, 0, 0, 0, residual)
    elif step == 2:
        _quantize_row(current, warped, 0, 1, 1, residual)
    else:
        _quantize_row(current, warped, 1, 1, 2, residual)


@inlined
def _quantize_row(
    current: NDArray[np.uint8],
    warped: NDArray[np.uint8],
    bias: int,
    below_zero: int,
    shift: int,
    residual: NDArray[Any],
) -> None:
    """floor((d + bias + below_zero * [d < 0]) / 2^shift) in 16 bits, where bias = step / 2 - 1."""
    for i in range(np.uint64(warped.size)):
        difference = np.int16(np.int16(current[i]) - np.int16(warped[i]))
        extra = np.int16(np.int16(difference < np.int16(0)) & np.int16(below_zero))
        residual[i] = np.int16(np.int16(difference + np.int16(bias)) + extra) >> np.int16(shift)
