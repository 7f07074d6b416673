"""One group of pictures as a store holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.planes import PIXEL_FORMATS, planes_to_rgb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Gop:
    """An I-frame, the accumulated residuals and the accumulated motion of the P-frames after it (Eq. 2).

    iframe: per plane uint8; `luma` (H, W) and `chroma` (2, H/2, W/2), or `rgb` (H, W, 3).
    residual: per plane int16, signed levels, one leading axis of gop_size - 1 frames; R_t, as dequantized.
    motion: (gop_size - 1, 2, H, W) int16 whole pixels, order (dy, dx); D_t.
    real_frames: frames of the video in this GOP; the rest, if any, repeat the last one.
    """

    iframe: Mapping[str, NDArray[np.uint8]]
    residual: Mapping[str, NDArray[np.int16]]
    motion: NDArray[np.int16]
    real_frames: int
    pixel_format: str = "yuv420p"

    def __post_init__(self) -> None:
        names = [plane.name for plane in PIXEL_FORMATS[self.pixel_format]]
        if list(self.iframe) != names or list(self.residual) != names:
            raise ValueError(f"planes {list(self.iframe)} and {list(self.residual)}: expected {names}")
        if self.motion.ndim != 4 or self.motion.shape[1] != 2:
            raise ValueError(f"motion of shape {self.motion.shape}: expected (gop_size - 1, 2, H, W)")

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {plane.shape}" for name, plane in self.residual.items())
        return f"Gop(residual {shapes}, motion {self.motion.shape}, real_frames={self.real_frames})"

    @property
    def gop_size(self) -> int:
        """Frames in this GOP, the I-frame included."""
        return len(self.motion) + 1

    def rebuild_planes(self) -> dict[str, NDArray[np.uint8]]:
        """U_t = U_0(p - D_t) + R_t (Eq. 2) on every plane, clamped to 0..255; one leading axis of gop_size frames."""
        return {
            plane.name: self._rebuild(plane.name, plane.subsampling_shift, interleaved=plane.interleaved)
            for plane in PIXEL_FORMATS[self.pixel_format]
        }

    def rebuild_frames(self) -> NDArray[np.uint8]:
        """RGB frames of the GOP, (gop_size, H, W, 3) uint8."""
        return planes_to_rgb(self.rebuild_planes())

    def _rebuild(self, name: str, shift: int, *, interleaved: bool) -> NDArray[np.uint8]:
        iframe, residual = self.iframe[name], self.residual[name]
        rows, columns = look_up(self.motion, shift)
        warped: NDArray[Any] = iframe[rows, columns] if interleaved else iframe[..., rows, columns]
        if iframe.ndim > 2 and not interleaved:
            warped = warped.swapaxes(0, 1)
        frames = np.clip(warped + residual, 0, 255).astype(np.uint8)
        return np.concatenate([iframe[None], frames])


def signed_motion(motion: NDArray[Any]) -> NDArray[np.int16]:
    """D_t as it is, or from D_t modulo 256, (T, 2, H, W) uint8: p - D_t is one pixel of the frame alone."""
    if motion.dtype != np.uint8:
        return motion
    places = np.indices(motion.shape[2:], np.uint8)
    signed: NDArray[np.int16] = places.astype(np.int16) - (places - motion)
    return signed


def look_up(motion: NDArray[np.int16], shift: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns p - D_t(p) of a plane subsampled by 2^shift, each (T, H >> shift, W >> shift).

    A chroma sample at (x, y) uses the look-up of luma (2x, 2y), shifted right by one (DESIGN 2, planes).
    """
    height, width = motion.shape[-2:]
    rows = np.arange(height).reshape(-1, 1) - motion[:, 0].astype(np.intp)
    columns = np.arange(width) - motion[:, 1].astype(np.intp)
    every = slice(None, None, 1 << shift)
    return rows[:, every, every] >> shift, columns[:, every, every] >> shift
