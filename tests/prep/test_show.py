"""`mfcd-prep show`: steps and figures by arithmetic, tiles by their equations, sources of a GOP, what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mfcd_core.gop import Gop
from mfcd_prep.show import (
    MAX_TILE_PX,
    ShownGop,
    draw,
    figures_of,
    fitted,
    mean_figures,
    steps_of_blocks,
    steps_of_motion,
)
from mfcd_prep.show_sheet import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT, WIDTH = 32, 48


def shown_gop(
    residual: NDArray[np.int16], level: int = 100, real_frames: int = 12, corner_px: NDArray[np.int16] | None = None
) -> ShownGop:
    """A flat grey I-frame with residuals (T,) in levels, the same at every pixel; motion at the last pixel alone.

    corner_px: D_t of that pixel, (T, 2).
    """
    shape = (len(residual), HEIGHT, WIDTH, 3)
    motion = np.zeros((len(residual), 2, HEIGHT, WIDTH), np.int16)
    motion[:, :, -1, -1] = 0 if corner_px is None else corner_px
    gop = Gop(
        {"rgb": np.full(shape[1:], level, np.uint8)},
        {"rgb": np.broadcast_to(residual[:, None, None, None], shape).astype(np.int16)},
        motion,
        real_frames,
        "rgb24",
    )
    steps = steps_of_blocks([np.empty((0, 6), np.int32)] * len(residual), (HEIGHT, WIDTH))
    return ShownGop("v", 0, 1, gop, steps, "I" + "P" * len(residual), {}, {})


RAMP = np.arange(1, 12)

# Steps


def test_steps_of_blocks_are_quarter_pixels_and_the_later_block_wins() -> None:
    blocks = np.array([[0, 0, 16, 16, 6, -10], [8, 8, 8, 8, 4, 0], [24, 40, 16, 16, 0, 8]], np.int32)
    displacement = steps_of_blocks([blocks], (HEIGHT, WIDTH)).displacement[0]
    assert displacement[:, 0, 0].tolist() == [1.5, -2.5]
    assert displacement[:, 15, 15].tolist() == [1, 0]
    assert displacement[:, 31, 47].tolist() == [0, 2]
    assert not displacement[:, 16:24].any()


def test_sources_outside_are_those_left_of_the_picture() -> None:
    """A block that moved right by 5 px at the left edge: its first 5 columns came from outside."""
    outside = steps_of_blocks([np.array([[16, 0, 16, 16, 0, 20]], np.int32)], (HEIGHT, WIDTH)).outside[0]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[16:, :5] = True
    assert np.array_equal(outside, expected)


def test_steps_of_a_store_are_solved_from_accumulated_motion() -> None:
    motion = np.arange(1, 6)[:, None, None, None] * np.array([1, -2])[:, None, None] * np.ones((HEIGHT, WIDTH), int)
    steps = steps_of_motion(motion.astype(np.int16))
    assert steps.solved is not None
    assert steps.solved.all()
    assert (steps.displacement == np.array([1, -2])[:, None, None]).all()
    assert steps.outside[0, 1].all()  # row 1 came from row 0, where a clamped source would lie
    assert not steps.outside[0, 2:, :-3].any()


# Figures


def test_figures_are_means_in_levels_and_pixels() -> None:
    num_pixels = HEIGHT * WIDTH
    figures = figures_of(shown_gop(RAMP * 3, corner_px=np.stack([RAMP // 4 * 3, RAMP // 4 * 4], axis=1)))
    assert [f.t for f in figures] == list(range(12))
    for t in range(1, 12):
        assert figures[t].change == figures[t].residual == 3 * t
        assert figures[t].step_residual == 3
        assert figures[t].moved == pytest.approx((t >= 4) / num_pixels)
        assert figures[t].mean_px == pytest.approx(t // 4 * 5 / num_pixels)
        assert figures[t].max_px == t // 4 * 5
    mean = mean_figures(figures)
    assert (mean.t, mean.change, mean.residual, mean.max_px) == (11, 18, 18, 10)
    assert mean.moved == pytest.approx(8 / 11 / num_pixels)


def test_repeats_do_not_count() -> None:
    figures = figures_of(shown_gop(RAMP * 3, real_frames=4))
    assert [f.t for f in figures if f.is_repeat] == list(range(4, 12))
    assert (mean_figures(figures).t, mean_figures(figures).residual) == (3, 6)
    assert mean_figures(figures_of(shown_gop(RAMP, real_frames=1))).residual == 0


# Tiles


def test_tiles_follow_their_equations() -> None:
    shown = shown_gop(RAMP * 20 - 100, level=90)
    rows = draw(shown, range(12)).rows
    assert [len(rows[name]) for name in ("rgb", "step", "step_residual", "motion", "residual", "augmented")] == [
        *(12, 11, 11, 11, 11, 12)
    ]
    for t in range(1, 12):
        r = 20 * t - 100
        step = r if t == 1 else min(max(90 + r, 0), 255) - min(max(90 + r - 20, 0), 255)
        expected = {"rgb": 90 + r, "residual": 128 + r, "step_residual": 128 + step, "augmented": 90 + r}
        for name, value in expected.items():
            tile = rows[name][t - (12 - len(rows[name]))]
            assert (tile == min(max(value, 0), 255)).all(), (name, t)
        assert (rows["motion"][t - 1] == 255).all()


def test_pixels_from_outside_are_dark() -> None:
    shown = shown_gop(RAMP)
    blocks = [np.array([[16, 0, 16, 16, 0, 20]], np.int32)] * 11
    steps = steps_of_blocks(blocks, (HEIGHT, WIDTH))
    tile = draw(ShownGop("v", 0, 1, shown.gop, steps, "I" + "P" * 11, {}, {}), [0, 1]).rows["step"][0]
    factor = tile.shape[0] // HEIGHT
    assert (tile[30 * factor :, : 5 * factor].max(axis=-1) < 40).all()
    assert (tile[30 * factor :, 6 * factor : 15 * factor].max(axis=-1) > 200).all()


def test_an_arrow_ends_where_the_content_is() -> None:
    """Content at column 24 that moved 4 px to the right: ink between columns 24 - 4 x scale and 24, in row 8."""
    shown = shown_gop(RAMP)
    blocks = [np.array([[0, 16, 16, 16, 0, 16]], np.int32)] * 11
    pictures = draw(
        ShownGop("v", 0, 1, shown.gop, steps_of_blocks(blocks, (HEIGHT, WIDTH)), "I" + "P" * 11, {}, {}), [0, 1]
    )
    tile, scale = pictures.rows["step"][0], pictures.arrow_scale["step"]
    assert (pictures.full_px["step"], scale) == (4, 4)
    factor = tile.shape[0] // HEIGHT
    ink_rows, ink_columns = np.nonzero(tile.max(axis=-1) < 100)
    assert abs(ink_columns.max() / factor - 24) < 0.5
    assert abs(ink_columns.min() / factor - (24 - 4 * scale)) < 0.5
    assert np.abs(ink_rows / factor - 8).max() < 2
    head, tail = (ink_rows[np.abs(ink_columns / factor - at) < 1.2] for at in (23, 9))
    assert np.ptp(head) > np.ptp(tail)


@pytest.mark.parametrize(
    ("size", "expected"), [((100, 80), (300, 240)), ((256, 256), (256, 256)), ((720, 1280), (270, MAX_TILE_PX))]
)
def test_tiles_have_a_size_to_look_at(size: tuple[int, int], expected: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 77, np.uint8)
    assert fitted(flat).shape[:2] == expected
    assert (fitted(flat) == 77).all()


def test_columns_are_spread_over_the_frames() -> None:
    assert spread(12) == [0, 2, 4, 7, 9, 11]
    assert spread(3) == [0, 1, 2]
