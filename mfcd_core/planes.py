"""Planes of a decoded picture, and their conversion to RGB (DESIGN 2, planes and colour)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Plane:
    """One stored plane: its name, channels, and the power of two by which it is subsampled."""

    name: str
    num_channels: int
    subsampling_shift: int
    interleaved: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of `shape`."""
        size = ("row", "column")
        if self.interleaved:
            return (*size, "channel")
        return size if self.num_channels == 1 else ("channel", *size)

    def shape(self, height_px: int, width_px: int) -> tuple[int, ...]:
        """Shape for a picture of that size: (H, W), planar (C, H, W) or interleaved (H, W, C)."""
        size = (height_px >> self.subsampling_shift, width_px >> self.subsampling_shift)
        if self.interleaved:
            return (*size, self.num_channels)
        return size if self.num_channels == 1 else (self.num_channels, *size)


PIXEL_FORMATS: dict[str, tuple[Plane, ...]] = {
    "yuv420p": (Plane("luma", 1, 0), Plane("chroma", 2, 1)),
    "rgb24": (Plane("rgb", 3, 0, interleaved=True),),
}

# BT.601 limited range to RGB in fixed point, 13 fractional bits.
LUMA_GAIN = round(255 / 219 * 8192)
CR_TO_R = round(1.402 * 255 / 224 * 8192)
CB_TO_G = -round(0.344136 * 255 / 224 * 8192)
CR_TO_G = -round(0.714136 * 255 / 224 * 8192)
CB_TO_B = round(1.772 * 255 / 224 * 8192)


def planes_to_rgb(planes: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """RGB of stored planes, (..., H, W, 3) uint8, as PyAV's `to_ndarray(format="rgb24")` gives it.

    `planes` holds `luma` (..., H, W) and `chroma` (..., 2, H/2, W/2), or `rgb` (..., H, W, 3), all uint8.
    Every chroma sample covers its 2x2 luma samples; each product is floored, as FFmpeg's converter does.
    """
    if "rgb" in planes:
        return planes["rgb"].astype(np.uint8, copy=False)
    luma = (planes["luma"].astype(np.int32) - 16) * LUMA_GAIN >> 13
    chroma = planes["chroma"].astype(np.int32) - 128
    blue, red = (chroma[..., i, :, :].repeat(2, -1).repeat(2, -2) for i in (0, 1))
    rgb = np.empty((*luma.shape, 3), np.uint8)
    channels = (
        luma + (red * CR_TO_R >> 13),
        luma + (blue * CB_TO_G >> 13) + (red * CR_TO_G >> 13),
        luma + (blue * CB_TO_B >> 13),
    )
    for i, channel in enumerate(channels):
        rgb[..., i] = np.clip(channel, 0, 255)
    return rgb


def residual_to_rgb(planes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Residual in RGB levels, (..., H, W, 3) float32: R = A R_yuv, clamped to -255..255 (DESIGN 2, clip formats)."""
    if "rgb" in planes:
        levels: NDArray[np.float32] = planes["rgb"].astype(np.float32)
        return levels.clip(-255, 255)
    luma = planes["luma"].astype(np.float32) * (LUMA_GAIN / 8192)
    chroma = planes["chroma"].astype(np.float32) / 8192
    blue, red = (chroma[..., i, :, :].repeat(2, -1).repeat(2, -2) for i in (0, 1))
    rgb = np.stack([luma + CR_TO_R * red, luma + CB_TO_G * blue + CR_TO_G * red, luma + CB_TO_B * blue], axis=-1)
    return np.clip(rgb, -255, 255).astype(np.float32)
