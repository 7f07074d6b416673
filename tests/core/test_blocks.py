"""Codec vectors: where blocks lie, the sign of d, quarter pixels, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_core.blocks import MOTION_VECTOR, blocks_from_vectors
from mfcd_core.errors import UsageError, VideoError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vector(**fields: int) -> NDArray[Any]:
    """One 16x16 block in the top left corner that did not move, but for `fields`."""
    still = {"source": -1, "w": 16, "h": 16, "dst_x": 8, "dst_y": 8, "motion_scale": 2}
    vectors = np.zeros(1, MOTION_VECTOR)
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


@pytest.mark.parametrize(("scale", "motion", "pixels"), [(1, 3, -3), (2, -3, 1), (2, 3, -1), (4, -7, 1), (4, 3, 0)])
def test_truncation_keeps_whole_pixels_and_drops_fractions(scale: int, motion: int, pixels: int) -> None:
    blocks = blocks_from_vectors(vector(motion_scale=scale, motion_y=motion), "integer")
    assert blocks[0, 4:].tolist() == [4 * pixels, 0]


def test_order_of_blocks_is_kept() -> None:
    vectors = np.concatenate([vector(dst_x=8 + 16 * i) for i in (2, 0, 1)])
    assert blocks_from_vectors(vectors, "subpel")[:, 1].tolist() == [32, 0, 16]


def test_an_empty_list_gives_no_blocks() -> None:
    blocks = blocks_from_vectors(np.zeros(0, MOTION_VECTOR), "subpel")
    assert blocks.shape == (0, 6)
    assert blocks.dtype == np.int32


def test_vectors_that_may_not_be_written_to_are_read() -> None:
    vectors = np.frombuffer(vector(dst_x=40, dst_y=20).tobytes(), MOTION_VECTOR)
    assert blocks_from_vectors(vectors, "subpel")[0].tolist() == [12, 32, 16, 16, 0, 0]


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
