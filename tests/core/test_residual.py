"""The law of stored residuals: nearest multiple of the step, ties toward zero, no clipping; on any plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import random_motion

from mfcd_core.residual import residual_plane
from mfcd_core.store.settings import StoreSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = pytest.mark.parametrize("step", [1, 2, 4])


def stored_differences(step: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every pair of levels: their differences, and what is stored of them."""
    current, iframe = (levels.astype(np.uint8) for levels in np.mgrid[:256, :256])
    stored = np.zeros((256, 256), StoreSettings(256, 256, residual_step=step).residual_dtype)
    residual_plane(current, iframe, np.zeros((2, 256, 256), np.int16), 0, 1, step, stored)
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
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([(0, 1), (1, 1), (0, 3), (0, 2)]),
    st.sampled_from([1, 2, 4]),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_residual_of_any_plane(
    seed: int, size: tuple[int, int], plane: tuple[int, int], step: int, padding: int, iframe_padding: int
) -> None:
    """R_t(p) = U_t(p) - U_0(p - D_t(p)), sample by sample: subsampled, interleaved, rows padded."""
    rng = np.random.default_rng(seed)
    shift, channels = plane
    height, width = size
    motion = random_motion(1, (height << shift, width << shift), rng)[0]
    current = rng.integers(0, 256, (height, width * channels + padding), np.uint8)
    iframe = rng.integers(0, 256, (height, width * channels + iframe_padding), np.uint8)
    stored = np.full((height, width * channels), 99, np.int16 if step == 1 else np.int8)
    residual_plane(current, iframe, motion, shift, channels, step, stored)
    for y, x, channel in np.ndindex(height, width, channels):
        luma_y, luma_x = y << shift, x << shift
        source_y, source_x = np.array([luma_y, luma_x]) - motion[:, luma_y, luma_x] >> shift
        level = int(current[y, x * channels + channel]) - int(iframe[source_y, source_x * channels + channel])
        assert abs(step * int(stored[y, x * channels + channel]) - level) <= step // 2
