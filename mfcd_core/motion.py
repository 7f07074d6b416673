"""Codec motion vectors as blocks in quarter pixels (DESIGN 2, trace)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.errors import UsageError, VideoError

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUARTER = 4
TRACES = ("subpel", "integer")
NO_BLOCKS = np.empty((0, 6), np.int32)


def blocks_from_vectors(vectors: NDArray[Any], trace: str) -> NDArray[np.int32]:
    """Blocks of one P-frame, (N, 6) int32: top, left, height, width in pixels, then dy, dx in quarter pixels.

    `vectors` is FFmpeg's list (fields dst_x, dst_y: block centres; w, h; motion_x, motion_y in 1/motion_scale pixels).
    The block came from p - d; FFmpeg's motion points at the source, hence the sign. `integer` first truncates d
    toward zero to whole pixels, as CoViAR does. Raises VideoError where quarter pixels cannot hold the vectors.
    """
    if trace not in TRACES:
        raise UsageError(f"trace {trace!r}: expected one of {', '.join(TRACES)}")
    scale = vectors["motion_scale"].astype(np.int32)
    if np.any((scale <= 0) | (QUARTER % np.maximum(scale, 1) != 0)):
        raise VideoError(f"motion in 1/{scale.max()} pixels: expected 1/1, 1/2 or 1/4; use mfcd-prep encode first")
    if np.any(vectors["source"] > 0):
        raise VideoError("a block points at a future frame: expected I- and P-frames; use mfcd-prep encode first")
    blocks = np.empty((len(vectors), 6), np.int32)
    blocks[:, 2], blocks[:, 3] = vectors["h"], vectors["w"]
    blocks[:, 0] = vectors["dst_y"] - blocks[:, 2] // 2
    blocks[:, 1] = vectors["dst_x"] - blocks[:, 3] // 2
    for column, name in ((4, "motion_y"), (5, "motion_x")):
        quarters = -vectors[name].astype(np.int32) * (QUARTER // scale)
        blocks[:, column] = truncate_to_pixels(quarters) if trace == "integer" else quarters
    return blocks


def truncate_to_pixels(quarters: NDArray[np.int32]) -> NDArray[np.int32]:
    """Quarter pixels without their fraction, truncated toward zero."""
    whole: NDArray[np.int32] = np.sign(quarters) * (np.abs(quarters) // QUARTER * QUARTER)
    return whole
