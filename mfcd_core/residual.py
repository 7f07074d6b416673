"""Accumulated residuals on any plane, quantized for storage (Eq. 2; DESIGN 2, stored residual)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@jit
def residual_plane(
    current: NDArray[np.uint8],
    iframe: NDArray[np.uint8],
    motion: NDArray[np.int16],
    shift: int,
    num_channels: int,
    step: int,
    residual: NDArray[Any],
) -> None:
    """Write R_t(p) = U_t(p) - U_0(p - D_t(p)), divided by `step`, nearest, ties toward zero, into `residual`.

    `current` and `iframe` are (h, >= w * num_channels) uint8, channels interleaved, rows possibly padded; `motion` is
    (2, H, W) at luma size; a sample at (y, x) of a plane subsampled by 2^shift uses the look-up of luma
    (y << shift, x << shift), shifted back. `residual` is (h, w * num_channels), int8 or int16.
    """
    half = np.int32((step - 1) // 2)
    step_shift = np.int32(step >> 1)  # steps 1, 2, 4 are shifts by 0, 1, 2
    warped = np.empty(residual.shape[1], np.int32)
    for y in range(residual.shape[0]):
        dy, dx = motion[0, y << shift], motion[1, y << shift]
        for x in range(residual.shape[1] // num_channels):
            source_y = np.uint32(((y << shift) - dy[x << shift]) >> shift)  # unsigned: no test for negative indices
            source_x = np.uint32(((x << shift) - dx[x << shift]) >> shift)
            for c in range(num_channels):
                warped[np.uint32(x * num_channels + c)] = iframe[source_y, np.uint32(source_x * num_channels + c)]
        for i in range(residual.shape[1]):  # apart from the gather, so that it is vectorised
            difference = np.int32(current[y, i]) - warped[i]
            sign = difference >> np.int32(31)
            magnitude = (((difference ^ sign) - sign) + half) >> step_shift
            residual[y, i] = (magnitude ^ sign) - sign
