"""The trace kernel against the rule of DESIGN 2, written down in plain NumPy and exact fractions of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mfcd_core.motion import NO_BLOCKS
from mfcd_core.trace import CELL_PX, accumulate_motion, identity_sources, no_cells, trace_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Walk:
    """Blocks of several P-frames in a picture of `size` (H, W)."""

    size: tuple[int, int]
    frames: tuple[NDArray[np.int32], ...]


@st.composite
def walks(draw: st.DrawFn, *, whole_pixels: bool = False) -> Walk:
    """Odd and even sizes; blocks overlap, stick out, lie outside, are missing, and point out of the picture."""
    size = draw(st.tuples(st.integers(1, 33), st.integers(1, 33)))
    place, side = st.integers(-20, 40), st.integers(1, 16)
    quarters = st.integers(-30, 30).map(lambda d: 4 * d) if whole_pixels else st.integers(-120, 120)
    block = st.tuples(place, place, side, side, quarters, quarters)
    frames = draw(st.lists(st.lists(block, max_size=8), min_size=1, max_size=4))
    return Walk(size, tuple(np.array(blocks, np.int32).reshape(-1, 6) for blocks in frames))


@st.composite
def crowded_walks(draw: st.DrawFn) -> Walk:
    """Small pictures where every block touches an edge or another block, and sources gather at the edges."""
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    place, side, quarters = st.integers(-3, 11), st.integers(1, 16), st.integers(-7, 7)
    block = st.tuples(place, place, side, side, quarters | st.just(0), quarters | st.just(0))
    frames = draw(st.lists(st.lists(block, min_size=1, max_size=6), min_size=3, max_size=6))
    return Walk(size, tuple(np.array(blocks, np.int32).reshape(-1, 6) for blocks in frames))


def dense_displacement(blocks: NDArray[np.int32], size: tuple[int, int]) -> NDArray[Any]:
    """d_t(p) in pixels: the last block that covers p decides, none means zero."""
    d = np.zeros((2, *size))
    y, x = np.indices(size)
    for top, left, height, width, dy, dx in blocks:
        inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
        d[:, inside] = np.array([dy, dx]).reshape(2, 1) / 4
    return d


def plain_sources(walk: Walk) -> list[NDArray[Any]]:
    """S_1, S_2, ... in pixels, pixel by pixel as DESIGN 2 has it."""
    p = np.indices(walk.size).astype(float)
    edge = np.array(walk.size).reshape(2, 1, 1) - 1.0
    sources = [p]
    for blocks in walk.frames:
        s = np.clip(p - dense_displacement(blocks, walk.size), 0, edge)
        q = np.floor(s + 0.5)
        rows, columns = q.astype(int)
        sources.append(np.clip(sources[-1][:, rows, columns] + (s - q), 0, edge))
    return sources[1:]


def kernel_sources(walk: Walk) -> list[NDArray[np.int16]]:
    sources = [identity_sources(*walk.size)]
    for blocks in walk.frames:
        sources.append(sources[-1].copy())
        trace_frame(sources[-1], blocks, np.full_like(sources[-1], -1), no_cells(*walk.size))
    return sources[1:]


@given(walks())
def test_kernel_follows_the_plain_rule(walk: Walk) -> None:
    for traced, expected in zip(kernel_sources(walk), plain_sources(walk), strict=True):
        assert np.array_equal(traced, 4 * expected)


@given(crowded_walks())
@settings(max_examples=400)
def test_kernel_follows_the_plain_rule_where_blocks_and_edges_meet(walk: Walk) -> None:
    for traced, expected in zip(kernel_sources(walk), plain_sources(walk), strict=True):
        assert np.array_equal(traced, 4 * expected)


@given(st.one_of(walks(), crowded_walks()))
def test_sources_change_in_changed_cells_alone(walk: Walk) -> None:
    sources, changed = identity_sources(*walk.size), ~no_cells(*walk.size)
    for blocks in walk.frames:
        before = sources.copy()
        trace_frame(sources, blocks, np.full_like(sources, -1), changed)
        moved_cells = (np.argwhere((sources != before).any(0)) // CELL_PX).T
        assert changed[tuple(moved_cells)].all()
        assert not changed.any() or blocks[:, 4:].any()


@given(walks())
def test_motion_is_the_way_to_the_nearest_whole_source_inside_the_picture(walk: Walk) -> None:
    p = np.indices(walk.size)
    for traced, expected in zip(kernel_sources(walk), plain_sources(walk), strict=True):
        motion = np.full(traced.shape, -999, np.int16)
        accumulate_motion(traced, motion)
        assert np.array_equal(motion, p - np.floor(expected + 0.5))
        look_up = p - motion
        assert (look_up >= 0).all()
        assert (look_up < np.array(walk.size).reshape(2, 1, 1)).all()


@given(walks(whole_pixels=True))
def test_whole_pixels_chain_without_rounding(walk: Walk) -> None:
    """With whole vectors the trace is a plain composition of look-ups, as CoViAR accumulates."""
    y, x = np.indices(walk.size)
    expected = np.stack([y, x])
    for blocks, traced in zip(walk.frames, kernel_sources(walk), strict=True):
        dy, dx = dense_displacement(blocks, walk.size).astype(int)
        rows, columns = np.clip(y - dy, 0, walk.size[0] - 1), np.clip(x - dx, 0, walk.size[1] - 1)
        expected = expected[:, rows, columns]
        assert np.array_equal(traced, 4 * expected)


def traced_pixel(displacements: list[tuple[int, int]], pixel: tuple[int, int]) -> tuple[float, float]:
    """S_t of one pixel of a 64x64 picture that moves as a whole, in pixels."""
    frames = tuple(np.array([[0, 0, 64, 64, dy, dx]], np.int32) for dy, dx in displacements)
    y, x = kernel_sources(Walk((64, 64), frames))[-1][:, pixel[0], pixel[1]]
    return y / 4, x / 4


def test_axis_order_is_y_then_x() -> None:
    assert traced_pixel([(4 * 3, 4 * -5)], (20, 30)) == (17, 35)


def test_fractions_add_up_over_frames() -> None:
    assert traced_pixel([(2, -2)] * 4, (20, 30)) == (18, 32)
    assert traced_pixel([(1, 3)] * 4, (20, 30)) == (19, 27)


def test_a_source_beyond_the_edge_is_clamped_to_it() -> None:
    assert traced_pixel([(4 * 30, -4 * 50)], (20, 30)) == (0, 63)


def test_of_overlapping_blocks_the_later_wins() -> None:
    blocks = np.array([[0, 0, 16, 16, 4, 4], [0, 8, 16, 16, 8, 8]], np.int32)
    (traced,) = kernel_sources(Walk((32, 32), (blocks,)))
    assert (traced[:, 10, 7] / 4).tolist() == [9, 6]
    assert (traced[:, 10, 8] / 4).tolist() == [8, 6]


def test_a_still_block_over_moved_ones_brings_the_sources_back() -> None:
    """The first moved block reaches further down than the second, and under the still one."""
    blocks = np.array([[0, 0, 24, 8, 8, 8], [0, 0, 8, 8, 4, 4], [16, 0, 8, 8, 0, 0]], np.int32)
    (traced,) = kernel_sources(Walk((32, 32), (blocks,)))
    assert (traced[:, 5, 5] / 4).tolist() == [4, 4]
    assert (traced[:, 12, 5] / 4).tolist() == [10, 3]
    assert (traced[:, 18, 5] / 4).tolist() == [18, 5]


def test_a_pixel_without_a_block_keeps_its_source() -> None:
    blocks = np.array([[0, 0, 16, 16, 6, 6]], np.int32)
    first, second = kernel_sources(Walk((32, 32), (blocks, NO_BLOCKS)))
    assert np.array_equal(first, second)
    assert (first[:, 20, 20] / 4).tolist() == [20, 20]


def test_identity_fits_int16_at_the_largest_size() -> None:
    sources = identity_sources(8176, 2)
    assert sources.dtype == np.int16
    assert sources[:, -1, -1].tolist() == [4 * 8175, 4]
