"""The law of stored residuals: nearest multiple of the step, ties toward zero, no clipping; on any plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_core.residual import residual_plane, warp_plane
from mfcd_core.store.settings import StoreSettings
from mfcd_core.trace import CELL_PX, no_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = pytest.mark.parametrize("step", [1, 2, 4])


def stored_differences(step: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every pair of levels: their differences, and what is stored of them."""
    current, iframe = (levels.astype(np.uint8) for levels in np.mgrid[:256, :256])
    stored = np.zeros((256, 256), StoreSettings(256, 256, residual_step=step).residual_dtype)
    residual_plane((current,), iframe[None], step, stored[None])
    return current.astype(int) - iframe, stored.astype(int)


@STEPS
def test_every_difference_is_stored_to_the_nearest_step_with_ties_toward_zero(step: int) -> None:
    difference, stored = stored_differences(step)
    exact = np.abs(difference) / step
    assert np.array_equal(np.abs(stored), np.ceil(exact - 0.5))
    assert (np.sign(stored) * np.sign(difference) >= 0).all()


@STEPS
def test_error_is_at_most_half_a_step_up_to_the_full_range(step: int) -> None:
    difference, stored = stored_differences(step)
    assert np.abs(stored * step - difference).max() == step // 2
    assert np.abs(difference).max() == 255


def test_only_the_lossless_step_needs_two_bytes() -> None:
    dtypes = [StoreSettings(16, 16, residual_step=step).residual_dtype for step in (1, 2, 4)]
    assert dtypes == [np.int16, np.int8, np.int8]


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 20), st.integers(1, 40)),
    st.sampled_from([(0, 1, 1), (1, 1, 2), (0, 3, 1), (0, 2, 1)]),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 5),
)
def test_residual_of_any_plane(
    seed: int, size: tuple[int, int], plane: tuple[int, int, int], step: int, padding: int
) -> None:
    """R_t(p) = U_t(p) - U_0(floor(S_t(p) + 1/2)), sample by sample: subsampled, interleaved, rows padded."""
    rng = np.random.default_rng(seed)
    shift, channels, num_sheets = plane
    height, width = size
    sides = (height << shift, width << shift)
    sources = np.stack([rng.integers(0, 4 * side - 3, sides) for side in sides]).astype(np.int16)
    current = rng.integers(0, 256, (num_sheets, height, width * channels + padding), np.uint8)
    iframe = rng.integers(0, 256, (num_sheets, height, width * channels), np.uint8)
    stored = np.full((num_sheets, height, width * channels), 99, np.int16 if step == 1 else np.int8)
    warped = np.empty_like(iframe)
    warp_plane(iframe, sources, ~no_cells(*sides), shift, channels, warped)
    residual_plane(tuple(current), warped, step, stored)
    for sheet, y, x, channel in np.ndindex(num_sheets, height, width, channels):
        look_up = np.floor(sources[:, y << shift, x << shift] / 4 + 0.5).astype(int)
        source_y, source_x = look_up >> shift
        level = int(current[sheet, y, x * channels + channel])
        level -= int(iframe[sheet, source_y, source_x * channels + channel])
        assert abs(step * int(stored[sheet, y, x * channels + channel]) - level) <= step // 2


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 50), st.sampled_from([(0, 1), (1, 1), (0, 3)]))
def test_only_changed_cells_are_warped_again(seed: int, height: int, width: int, plane: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    shift, channels = plane
    sides = (height << shift, width << shift)
    sources = np.stack([rng.integers(0, 4 * side - 3, sides) for side in sides]).astype(np.int16)
    iframe = rng.integers(0, 256, (1, height, width * channels), np.uint8)
    everywhere, here = np.empty_like(iframe), np.zeros_like(iframe)
    warp_plane(iframe, sources, ~no_cells(*sides), shift, channels, everywhere)
    changed = rng.random(no_cells(*sides).shape) < 0.5
    warp_plane(iframe, sources, changed, shift, channels, here)
    y, x = np.indices((height, width)) << shift
    expected = changed[y // CELL_PX, x // CELL_PX].repeat(channels, 1) * everywhere[0]
    assert np.array_equal(here[0], expected)
