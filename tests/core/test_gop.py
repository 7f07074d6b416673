"""Eq. 2 as a property: what is stored rebuilds every frame from the I-frame, whatever the motion says."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import random_motion

from mfcd_core.gop import Gop, look_up, signed_motion
from mfcd_core.planes import PIXEL_FORMATS, planes_to_rgb
from mfcd_core.residual import residual_plane, warp_plane
from mfcd_core.store.settings import StoreSettings
from mfcd_core.trace import no_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mfcd_core.planes import Plane


@dataclass(frozen=True)
class Case:
    """Random frames U_0, U_1, ... per plane, (T, ...) uint8, and the GOP that stores them with some motion."""

    frames: dict[str, NDArray[np.uint8]]
    gop: Gop


@st.composite
def cases(draw: st.DrawFn, steps: st.SearchStrategy[int]) -> Case:
    half_width, half_height = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    settings = StoreSettings(
        width_px=2 * half_width,
        height_px=2 * half_height,
        gop_size=draw(st.integers(2, 16)),
        pixel_format=draw(st.sampled_from(list(PIXEL_FORMATS))),
        residual_step=draw(steps),
    )
    return make_case(settings, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))


def make_case(settings: StoreSettings, rng: np.random.Generator) -> Case:
    height, width = settings.height_px, settings.width_px
    num_p, step = settings.gop_size - 1, settings.residual_step
    motion = random_motion(num_p, (height, width), rng)
    frames, residual = {}, {}
    for plane in PIXEL_FORMATS[settings.pixel_format]:
        shape = plane.shape(height, width)
        video = frames[plane.name] = rng.integers(0, 256, (settings.gop_size, *shape), np.uint8)
        stored = np.zeros((num_p, *shape), settings.residual_dtype)
        channels = plane.num_channels if plane.interleaved else 1
        of_plane, residuals = sheets(plane, video), sheets(plane, stored)
        for t in range(num_p):
            sources = (4 * (np.indices((height, width)) - motion[t])).astype(np.int16)
            current, shift = tuple(of_plane[t + 1]), plane.subsampling_shift
            warped = np.empty_like(of_plane[0])
            warp_plane(of_plane[0], sources, ~no_cells(height, width), shift, channels, warped)
            residual_plane(current, warped, step, residuals[t])
        residual[plane.name] = stored.astype(np.int16) * np.int16(step)
    iframe = {name: video[0] for name, video in frames.items()}
    return Case(frames, Gop(iframe, residual, motion, settings.gop_size, settings.pixel_format))


def sheets(plane: Plane, array: NDArray[Any]) -> NDArray[Any]:
    """A view (T, sheets, h, w * channels) for the kernel."""
    num_sheets = 1 if plane.interleaved else plane.num_channels
    height = array.shape[1 if plane.interleaved else -2]
    return array.reshape(len(array), num_sheets, height, -1)


@given(cases(steps=st.just(1)))
def test_step_1_rebuilds_every_frame_exactly(case: Case) -> None:
    rebuilt = case.gop.rebuild_planes()
    assert list(rebuilt) == list(case.frames)
    for name, video in case.frames.items():
        assert rebuilt[name].dtype == np.uint8
        assert np.array_equal(rebuilt[name], video)


@pytest.mark.parametrize("step", [2, 4])
def test_larger_steps_rebuild_within_half_a_step(step: int) -> None:
    @given(cases(steps=st.just(step)))
    def check(case: Case) -> None:
        rebuilt = case.gop.rebuild_planes()
        for name, video in case.frames.items():
            assert np.array_equal(rebuilt[name][0], video[0])
            assert np.abs(rebuilt[name].astype(int) - video).max() <= step // 2

    check()


@given(cases(steps=st.just(1)))
def test_rebuilt_frames_are_the_rgb_of_the_frames(case: Case) -> None:
    frames = case.gop.rebuild_frames()
    assert frames.shape == (case.gop.gop_size, *case.gop.motion.shape[2:], 3)
    assert np.array_equal(frames, planes_to_rgb(case.frames))


@given(cases(steps=st.sampled_from([1, 2, 4])))
def test_look_ups_stay_inside_every_plane(case: Case) -> None:
    height, width = case.gop.motion.shape[2:]
    for shift in (0, 1):
        rows, columns = look_up(case.gop.motion, shift)
        assert rows.shape == columns.shape == (case.gop.gop_size - 1, height >> shift, width >> shift)
        assert rows.min() >= 0 <= columns.min()
        assert rows.max() < height >> shift
        assert columns.max() < width >> shift


def test_chroma_takes_the_look_up_of_every_second_luma_pixel_halved() -> None:
    motion = np.zeros((1, 2, 4, 6), np.int16)
    motion[0, :, 2, 4] = 1, -1  # luma (2, 4) looks up (1, 5): chroma (1, 2) looks up (0, 2)
    motion[0, :, 3, 5] = 3, 5  # belongs to no chroma sample
    rows, columns = look_up(motion, 1)
    assert rows[0].tolist() == [[0, 0, 0], [1, 1, 0]]
    assert columns[0].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_rebuilt_levels_are_clamped() -> None:
    iframe = {"rgb": np.full((2, 2, 3), 250, np.uint8)}
    residual = {"rgb": np.stack([np.full((2, 2, 3), r, np.int16) for r in (10, -254)])}
    rebuilt = Gop(iframe, residual, np.zeros((2, 2, 2, 2), np.int16), 3, "rgb24").rebuild_frames()
    assert [frame.flat[0] for frame in rebuilt] == [250, 255, 0]


def test_a_gop_travels_between_processes() -> None:
    gop = make_case(StoreSettings(16, 8, gop_size=3), np.random.default_rng(0)).gop
    copy = pickle.loads(pickle.dumps(gop))  # noqa: S301, our own bytes
    assert np.array_equal(copy.rebuild_frames(), gop.rebuild_frames())
    assert repr(copy) == repr(gop)


def test_repr_shows_shapes() -> None:
    gop = make_case(StoreSettings(16, 8, gop_size=3), np.random.default_rng(0)).gop
    assert repr(gop) == "Gop(residual luma (2, 8, 16), chroma (2, 2, 4, 8), motion (2, 2, 8, 16), real_frames=3)"


def test_planes_of_another_format_and_flat_motion_are_refused() -> None:
    gop = make_case(StoreSettings(16, 8, gop_size=3), np.random.default_rng(0)).gop
    with pytest.raises(ValueError, match="expected \\['rgb'\\]"):
        Gop(gop.iframe, gop.residual, gop.motion, 3, "rgb24")
    with pytest.raises(ValueError, match="gop_size - 1, 2, H, W"):
        Gop(gop.iframe, gop.residual, gop.motion[0], 3)


@pytest.mark.parametrize("size", [(2, 2), (256, 256), (18, 254)])
def test_a_byte_of_motion_says_everything_up_to_256_pixels_a_side(size: tuple[int, int]) -> None:
    motion = random_motion(3, size, np.random.default_rng(0))
    found = signed_motion((motion % 256).astype(np.uint8))
    assert found.dtype == np.int16
    assert np.array_equal(found, motion)
