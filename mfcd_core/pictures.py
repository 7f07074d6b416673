"""What a GOP looks like, as arrays: steps between frames, residuals around mid-grey, motion as colour (Eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MID_GREY = 128
WHEEL_SIZE_PX = 160
MOTION_PERCENTILE = 99.0  # of the lengths of motion: full colour
SOLVING_ROUNDS = 5


def step_motion(motion: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Whole-pixel displacements d_t from frame t-1 to t that accumulate to D_t: D_t(p) = d_t(p) + D_{t-1}(p - d_t(p)).

    A store keeps D_t alone, so d_t is solved for, beginning at D_t(p) - D_{t-1}(p); there may be other solutions than
    the one found. Returns d_t, (T, 2, H, W), and where the equation holds, (T, H, W); elsewhere d_t is the last guess.
    """
    before = np.concatenate([np.zeros_like(motion[:1]), motion[:-1]]).transpose(0, 2, 3, 1)
    step = motion - before.transpose(0, 3, 1, 2)
    for _ in range(SOLVING_ROUNDS):
        guess, step = step, motion - _look_back(before, step).transpose(0, 3, 1, 2)
    return guess, (guess == step).all(axis=1)


def step_residuals(frames: NDArray[np.uint8], step: NDArray[Any]) -> NDArray[np.int16]:
    """r_t(p) = U_t(p) - U_{t-1}(p - d_t(p)), (T, H, W, 3), of frames (T + 1, H, W, 3) and d_t in pixels, (T, 2, H, W).

    Sources are clamped to the edge, then rounded to whole pixels, half up.
    """
    levels = frames.astype(np.int16)
    residual: NDArray[np.int16] = levels[1:] - _look_back(levels[:-1], step)
    return residual


def _look_back(pictures: NDArray[Any], step: NDArray[Any]) -> NDArray[Any]:
    """Pictures (T, H, W, C) at floor(clamp(p - step(p)) + 1/2)."""
    num, height, width = pictures.shape[:3]
    grid = np.indices((height, width))
    rows, columns = (
        np.floor(np.clip(grid[axis] - step[:, axis], 0, side - 1) + 0.5).astype(np.intp)
        for axis, side in enumerate((height, width))
    )
    found: NDArray[Any] = pictures[np.arange(num)[:, None, None], rows, columns]
    return found


def around_mid_grey(residual: NDArray[Any]) -> NDArray[np.uint8]:
    """A signed picture as levels: 0 is mid-grey, one level is one level, what lies beyond 0..255 is clipped."""
    return to_levels(residual + float(MID_GREY))


def to_levels(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """Nearest levels within 0..255."""
    levels: NDArray[np.uint8] = np.rint(picture).clip(0, 255).astype(np.uint8)
    return levels


def lengths(motion: NDArray[Any]) -> NDArray[np.float64]:
    """Lengths (..., H, W) of motion (..., 2, H, W)."""
    found: NDArray[np.float64] = np.hypot(*_axes(motion))
    return found


def full_colour_px(motion: NDArray[Any]) -> float:
    """The length that is drawn in full colour, so that outliers do not pale the rest; at least one pixel."""
    return max(float(np.percentile(lengths(motion), MOTION_PERCENTILE)), 1.0)


def motion_colours(motion: NDArray[Any], full_px: float) -> NDArray[np.uint8]:
    """Motion (..., 2, H, W) in order (dy, dx) as colours (..., H, W, 3): hue is direction, white is no motion."""
    dy, dx = _axes(motion)
    hue = np.arctan2(dy, dx) / (2 * np.pi) % 1
    saturation = np.minimum(np.hypot(dy, dx) / full_px, 1)
    return to_levels(_hsv_to_rgb(hue, saturation, 1 - 0.1 * saturation) * 255)


def _hsv_to_rgb(hue: NDArray[Any], saturation: NDArray[Any], value: NDArray[Any]) -> NDArray[Any]:
    turned = (hue[..., None] * 6 + np.array([5, 3, 1])) % 6
    dip = np.clip(np.minimum(turned, 4 - turned), 0, 1)
    rgb: NDArray[Any] = value[..., None] * (1 - saturation[..., None] * dip)
    return rgb


def colour_wheel(size_px: int = WHEEL_SIZE_PX) -> NDArray[np.uint8]:
    """The key to `motion_colours`, (size, size, 4) RGBA: the colour at a place is that of motion toward it."""
    place = np.linspace(-1, 1, size_px)
    motion = np.stack(np.meshgrid(place, place, indexing="ij"))
    inside = (np.hypot(*motion) <= 1)[..., None] * np.uint8(255)
    return np.concatenate([motion_colours(motion, 1.0), inside], axis=-1)


def _axes(motion: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return motion[..., 0, :, :].astype(np.float64), motion[..., 1, :, :].astype(np.float64)
