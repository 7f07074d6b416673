from __future__ import annotations

import base64
import re
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread
from synthetic import random_motion

from mfcd_core.gop import Gop
from mfcd_train.pictures import (
    MAX_TILE_PX,
    Curve,
    build_strip,
    curves_uri,
    explained_levels,
    moving_mean,
    png_uri,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (16, 24)


def rgb_gop(seed: int = 0, real_frames: int = 12) -> Gop:
    rng = np.random.default_rng(seed)
    return Gop(
        iframe={"rgb": rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)},
        residual={"rgb": rng.integers(-255, 256, (11, *SIZE, 3)).astype(np.int16)},
        motion=random_motion(11, SIZE, rng),
        real_frames=real_frames,
        pixel_format="rgb24",
    )


def grey_gop(luma: int, motion: NDArray[np.int16]) -> Gop:
    height, width = motion.shape[-2:]
    chroma = (2, height // 2, width // 2)
    return Gop(
        iframe={"luma": np.full((height, width), luma, np.uint8), "chroma": np.full(chroma, 128, np.uint8)},
        residual={
            "luma": np.zeros((len(motion), height, width), np.int16),
            "chroma": np.zeros((len(motion), *chroma), np.int16),
        },
        motion=motion,
        real_frames=len(motion) + 1,
    )


def decoded(uri: str) -> NDArray[np.uint8]:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return (imread(BytesIO(base64.b64decode(body)), format="png") * 255).round().astype(np.uint8)


def test_gop_without_residuals_has_mid_grey_rows() -> None:
    strip = build_strip(grey_gop(90, np.zeros((11, 2, *SIZE), np.int16)))
    assert (strip.residual == 128).all()
    assert (strip.step_residual == 128).all()
    assert (strip.motion == 255).all()
    assert strip.mean_levels == {"change": 0, "step_residual": 0, "residual": 0}


def test_columns_are_spread_over_the_real_frames() -> None:
    assert build_strip(rgb_gop()).frames == [0, 2, 4, 7, 9, 11]
    assert build_strip(rgb_gop(real_frames=4)).frames == [0, 1, 2, 3]


@pytest.mark.parametrize("offset", [0.0, 128.0])
def test_augmented_row_is_the_mean_of_residual_and_iframe(offset: float) -> None:
    gop = rgb_gop()
    strip = build_strip(gop, residual_offset=offset)
    iframe = gop.iframe["rgb"].astype(float)
    for picture, t in zip(strip.augmented[1:], strip.frames[1:], strict=True):
        expected = np.clip((gop.residual["rgb"][t - 1] + offset + iframe) / 2, 0, 255)
        assert np.abs(picture - expected).max() <= 0.5
    assert (strip.augmented[0] == gop.iframe["rgb"]).all()


def test_rgb_and_residual_rows_are_the_frames_of_the_gop() -> None:
    gop = rgb_gop()
    strip = build_strip(gop)
    assert (strip.rgb == gop.rebuild_frames()[strip.frames]).all()
    shown = gop.residual["rgb"][np.array(strip.frames[1:]) - 1]
    assert (strip.residual == np.clip(shown + 128, 0, 255)).all()


def test_explained_levels_reward_motion_that_explains_the_change() -> None:
    gop = rgb_gop()
    frames = gop.rebuild_frames().astype(int)
    expected = np.abs(frames[11] - frames[0]).mean() - np.abs(gop.residual["rgb"][10]).mean()
    assert explained_levels(gop) == pytest.approx(expected, rel=1e-5)
    assert explained_levels(rgb_gop(real_frames=1)) == -1


def test_png_holds_the_picture() -> None:
    picture = rgb_gop().iframe["rgb"]
    assert (decoded(png_uri(picture))[..., :3] == picture).all()


def test_large_picture_is_averaged_down() -> None:
    halves = np.zeros((2, MAX_TILE_PX + 2, 3), np.uint8)
    halves[1] = 200
    small = decoded(png_uri(halves))
    assert small.shape[:2] == (1, MAX_TILE_PX // 2 + 1)
    assert (small[..., :3] == 100).all()


def test_moving_mean_uses_what_there_is_at_the_ends() -> None:
    assert moving_mean(np.array([1.0, 2, 3, 8]), 3) == pytest.approx([1.5, 2, 13 / 3, 5.5])


@pytest.mark.parametrize("smoothed", [True, False])
def test_curves_are_a_drawing_without_background_that_comes_out_the_same(*, smoothed: bool) -> None:
    curve = Curve(np.arange(3.0), np.array([0.2, 0.5, 0.4]), "#2b7fd4", "solid")
    first, second = (curves_uri([curve], smoothed=smoothed, share=True, chance=0.5) for _ in range(2))
    assert first == second
    drawing = base64.b64decode(first.partition(",")[2]).decode()
    assert "#2b7fd4" in drawing
    assert "#ffffff" not in drawing


@pytest.mark.parametrize("smoothed", [True, False])
def test_a_curve_of_one_value_has_a_dot(*, smoothed: bool) -> None:
    assert depths_of_dots([0.4], smoothed=smoothed)


def test_dots_of_values_close_to_each_other_are_whole() -> None:
    """The radius of a dot is 2 units of the drawing."""
    assert min(depths_of_dots([1.99, 1.98, 1.97], smoothed=False)) > 2


def depths_of_dots(values: list[float], *, smoothed: bool) -> list[float]:
    """How far the dots of a curve are below the upper edge of its axes, which is not that of the drawing."""
    curve = Curve(np.arange(len(values)) + 1.0, np.array(values), "#2b7fd4", "solid")
    drawing = base64.b64decode(curves_uri([curve], smoothed=smoothed, share=False).partition(",")[2]).decode()
    upper_edge = min(float(y) for y in re.findall(r"L [\d.]+ ([\d.]+)", drawing) if float(y))
    dots = re.findall(r'<use [^>]*y="([\d.]+)" style="fill: #2b7fd4', drawing)
    return [float(y) - upper_edge for y in dots]
