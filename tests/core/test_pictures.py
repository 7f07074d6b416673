"""Steps between frames from accumulated motion, residuals around mid-grey, and the colours of motion."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import random_motion

from mfcd_core.pictures import (
    around_mid_grey,
    colour_wheel,
    full_colour_px,
    motion_colours,
    step_motion,
    step_residuals,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (16, 24)


def moving_block(num_frames: int, speed: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Steps d_t of a block of 8 x 8 that moves over a still ground, and D_t, pixel by pixel."""
    height, width = 32, 40
    steps = np.zeros((num_frames, 2, height, width), np.int16)
    accumulated = np.zeros_like(steps)
    for t in range(num_frames):
        top, left = 4 + speed[0] * (t + 1), 4 + speed[1] * (t + 1)
        steps[t, :, top : top + 8, left : left + 8] = np.array(speed)[:, None, None]
        for y, x in np.ndindex(height, width):
            d = steps[t, :, y, x]
            before = accumulated[t - 1, :, y - d[0], x - d[1]] if t else 0
            accumulated[t, :, y, x] = d + before
    return steps, accumulated


def test_residual_of_zero_is_mid_grey() -> None:
    assert around_mid_grey(np.array([-300, -1, 0, 0.4, 127, 300])).tolist() == [0, 127, 128, 128, 255, 255]


def test_step_motion_is_found_from_accumulated_motion() -> None:
    steps, accumulated = moving_block(6, (1, 2))
    found, solved = step_motion(accumulated)
    assert solved.mean() > 0.95
    naive = accumulated - np.concatenate([np.zeros_like(accumulated[:1]), accumulated[:-1]])
    moving = steps.any(axis=1)
    right, naively_right = ((guess == steps).all(axis=1)[moving].mean() for guess in (found, naive))
    assert right > 0.9 > naively_right


def test_solved_steps_join_pixels_with_one_origin() -> None:
    motion = random_motion(5, SIZE, np.random.default_rng(1))
    steps, solved = step_motion(motion)
    for t, y, x in np.argwhere(solved):
        dy, dx = steps[t, :, y, x]
        row, column = np.clip(y - dy, 0, SIZE[0] - 1), np.clip(x - dx, 0, SIZE[1] - 1)
        before = motion[t - 1, :, row, column] if t else 0
        assert (motion[t, :, y, x] == steps[t, :, y, x] + before).all()


def test_step_residual_of_a_pan_is_zero() -> None:
    still = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    frames = np.stack([still[12 - t : 36 - t, 24 - 2 * t : 48 - 2 * t] for t in range(7)])
    motion = np.arange(1, 7)[:, None, None, None] * np.array([1, 2])[:, None, None] * np.ones((24, 24), int)
    step, solved = step_motion(motion.astype(np.int16))
    residual = step_residuals(frames, step)
    assert solved.all()
    assert (residual[:, 1:, 2:] == 0).all()


def test_no_motion_is_white_and_opposite_directions_differ() -> None:
    motion = np.array([[0, 0], [3, 0], [-3, 0], [0, 3], [0, -3]])[:, :, None, None]
    colours = motion_colours(motion, 3.0)[:, 0, 0].astype(int)
    assert (colours[0] == 255).all()
    distances = [np.abs(colours[i] - colours[j]).max() for i in range(5) for j in range(i)]
    assert min(distances) > 100


def test_motion_beyond_full_colour_keeps_its_colour() -> None:
    motion = np.array([[3, 4], [30, 40]])[:, :, None, None]
    assert np.ptp(motion_colours(motion, 5.0), axis=0).max() == 0


def test_wheel_shows_the_colour_of_motion_toward_a_place() -> None:
    wheel = colour_wheel(101).astype(int)
    right = motion_colours(np.array([0, 1])[:, None, None], 1.0)[0, 0]
    assert np.abs(wheel[50, 100, :3] - right).max() <= 1
    assert (wheel[50, 50] == 255).all()
    assert wheel[0, 0, 3] == 0


def test_fractions_of_a_step_round_half_up_and_stay_within_the_picture() -> None:
    frames = np.zeros((2, 1, 4, 3), np.uint8)
    frames[0, 0] = np.array([10, 20, 30, 40])[:, None]
    for dx, sources in ((0.5, [10, 20, 30, 40]), (-0.5, [20, 30, 40, 40]), (1, [10, 10, 20, 30]), (9, [10] * 4)):
        step = np.zeros((1, 2, 1, 4))
        step[:, 1] = dx
        assert (-step_residuals(frames, step)[0, 0, :, 0]).tolist() == sources


@pytest.mark.parametrize("degrees", range(0, 360, 15))
def test_hue_is_the_direction(degrees: int) -> None:
    """Against the standard library: 0 degrees is to the right, 90 down."""
    angle = np.deg2rad(degrees)
    motion = np.array([np.sin(angle), np.cos(angle)])[:, None, None]
    for length in (0.3, 1.0):
        expected = np.array(colorsys.hsv_to_rgb(degrees / 360, length, 1 - 0.1 * length)) * 255
        assert np.abs(motion_colours(length * motion, 1.0)[0, 0] - expected).max() <= 1


def test_full_colour_ignores_outliers() -> None:
    motion = np.zeros((1, 2, 10, 100))
    motion[:, 0] = 3
    motion[0, 1, 0, :5] = 400
    assert full_colour_px(motion) == 3
    assert full_colour_px(motion * 0) == 1
