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
        _look_up_row(sources, y, shift, row_size, num_channels, look_up)
        for sheet in range(num_sheets):
            _gather_row(levels[sheet], look_up, num_channels, warped)
            quantize_row(current[sheet][y], warped, step, residual[sheet, y])


@inlined
def _look_up_row(
    sources: NDArray[np.int16], y: int, shift: int, row_size: int, num_channels: int, look_up: NDArray[np.int32]
) -> None:
    """Where in the flat sheet each sample of row `y` comes from."""
    row = np.uint64(y << shift)  # unsigned: no test for negative indices
    half, to_sample = np.int32(2), np.int32(2 + shift)
    rows_to, columns_to = np.int32(row_size), np.int32(num_channels)
    if shift == 0:  # apart, because only loops of a known stride are vectorised
        for x in range(np.uint64(look_up.size)):
            source_y, source_x = np.int32(sources[0, row, x]) + half, np.int32(sources[1, row, x]) + half
            look_up[x] = (source_y >> to_sample) * rows_to + (source_x >> to_sample) * columns_to
    else:
        for x in range(np.uint64(look_up.size)):
            left = x * np.uint64(2)
            source_y, source_x = np.int32(sources[0, row, left]) + half, np.int32(sources[1, row, left]) + half
            look_up[x] = (source_y >> to_sample) * rows_to + (source_x >> to_sample) * columns_to


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
                warped[target + channel] = levels[np.uint64(look_up[x]) + channel]
            target += np.uint64(num_channels)


@inlined
def quantize_row(current: NDArray[np.uint8], warped: NDArray[np.uint8], step: int, residual: NDArray[Any]) -> None:
    """One row: the difference d divided by `step`, nearest, ties toward zero.

    floor((d + step / 2 - 1 + [d < 0]) / step) in 16 bits: steps 1, 2, 4 are shifts by 0, 1, 2.
    """
    bias, more_below_zero, to_step = np.int16((step - 1) // 2), np.int16(step > 1), np.int16(step >> 1)
    for i in range(np.uint64(warped.size)):
        difference = np.int16(np.int16(current[i]) - np.int16(warped[i]))
        extra = np.int16(np.int16(difference < np.int16(0)) & more_below_zero)
        residual[i] = np.int16(np.int16(difference + bias) + extra) >> to_step
