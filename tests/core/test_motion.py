"""Codec vectors: where blocks lie, the sign of d, quarter pixels, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_core.errors import UsageError, VideoError
from mfcd_core.motion import blocks_from_vectors, truncate_to_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

# FFmpeg's AVMotionVector.
AV_MOTION_VECTOR = np.dtype(
    [
        ("source", "i4"),
        ("w", "u1"),
        ("h", "u1"),
        ("src_x", "i2"),
        ("src_y", "i2"),
        ("dst_x", "i2"),
        ("dst_y", "i2"),
        ("flags", "u8"),
        ("motion_x", "i4"),
        ("motion_y", "i4"),
        ("motion_scale", "u2"),
    ],
    align=True,
)


def vector(**fields: int) -> NDArray[Any]:
    """One 16x16 block in the top left corner that did not move, but for `fields`."""
    still = {"source": -1, "w": 16, "h": 16, "dst_x": 8, "dst_y": 8, "motion_scale": 2}
    vectors = np.zeros(1, AV_MOTION_VECTOR)
    for name, value in {**still, **fields}.items():
        vectors[name] = value
    return vectors


def test_a_block_lies_around_its_centre() -> None:
    block = blocks_from_vectors(vector(dst_x=40, dst_y=20, w=8, h=16), "subpel")[0]
    assert block.tolist() == [12, 36, 16, 8, 0, 0]


def test_a_block_may_begin_outside_the_picture() -> None:
    assert blocks_from_vectors(vector(dst_x=4, dst_y=-4), "subpel")[0, :2].tolist() == [-12, -4]


def test_content_that_moved_down_and_right_has_positive_displacement() -> None:
    # FFmpeg's motion points from the block to its source: up and left.
    block = blocks_from_vectors(vector(motion_y=-6, motion_x=-4), "subpel")[0]
    assert block[4:].tolist() == [4 * 3, 4 * 2]


@pytest.mark.parametrize(("scale", "motion", "quarters"), [(1, -3, 12), (2, -3, 6), (4, -3, 3), (4, 5, -5)])
def test_displacement_is_in_quarter_pixels(scale: int, motion: int, quarters: int) -> None:
    blocks = blocks_from_vectors(vector(motion_scale=scale, motion_y=motion, motion_x=motion), "subpel")
    assert blocks[0, 4:].tolist() == [quarters, quarters]


@given(st.lists(st.integers(-5000, 5000), min_size=1))
def test_integer_trace_truncates_toward_zero_as_covair_does(motions: list[int]) -> None:
    vectors = np.concatenate([vector(motion_scale=4, motion_y=motion, motion_x=-motion) for motion in motions])
    blocks = blocks_from_vectors(vectors, "integer")
    assert blocks[:, 4].tolist() == [4 * int(-motion / 4) for motion in motions]
    assert blocks[:, 5].tolist() == [4 * int(motion / 4) for motion in motions]


def test_truncation_keeps_whole_pixels_and_drops_fractions() -> None:
    quarters = np.array([-8, -7, -5, -4, -3, -1, 0, 1, 3, 4, 5, 7, 8], np.int32)
    assert truncate_to_pixels(quarters).tolist() == [-8, -4, -4, -4, 0, 0, 0, 0, 0, 4, 4, 4, 8]


def test_order_of_blocks_is_kept() -> None:
    vectors = np.concatenate([vector(dst_x=8 + 16 * i) for i in (2, 0, 1)])
    assert blocks_from_vectors(vectors, "subpel")[:, 1].tolist() == [32, 0, 16]


def test_an_empty_list_gives_no_blocks() -> None:
    blocks = blocks_from_vectors(np.zeros(0, AV_MOTION_VECTOR), "subpel")
    assert blocks.shape == (0, 6)
    assert blocks.dtype == np.int32


@pytest.mark.parametrize("scale", [0, 3, 8])
def test_fractions_beyond_quarter_pixels_are_refused(scale: int) -> None:
    vectors = np.concatenate([vector(), vector(motion_scale=scale, motion_x=1)])
    with pytest.raises(VideoError, match="mfcd-prep encode"):
        blocks_from_vectors(vectors, "subpel")


def test_a_reference_to_the_future_is_refused() -> None:
    with pytest.raises(VideoError, match="future"):
        blocks_from_vectors(np.concatenate([vector(), vector(source=1)]), "subpel")


def test_an_unknown_trace_is_refused() -> None:
    with pytest.raises(UsageError, match="subpel, integer"):
        blocks_from_vectors(vector(), "half")
