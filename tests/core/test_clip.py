"""Clip formats against hand arithmetic: Eq. 3, 4, 9, 10, and what each needs to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mfcd_core.clip import CLIP_FORMATS, RGB_MEAN, RGB_SCALE

if TYPE_CHECKING:
    from numpy.typing import NDArray

OFFSETS = [0.0, 128.0]


def levels(*values: float) -> NDArray[np.float32]:
    """One pixel and one channel over time: (T, 1, 1)."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


U_0 = levels(100)
R = levels(-40, 0, 20)  # R_1, R_2, R_3 of a GOP of 4


def clip_of(name: str, frames: NDArray[np.float32], offset: float) -> list[float]:
    """The whole clip, slot by slot."""
    first, others = CLIP_FORMATS[name].slots(U_0, frames, offset)
    slots: list[float] = np.concatenate([first, others]).ravel().tolist()
    return slots


@pytest.mark.parametrize("offset", OFFSETS)
def test_rgb_is_the_frames_themselves(offset: float) -> None:
    assert clip_of("rgb", levels(101, 102, 103), offset) == [100, 101, 102, 103]


@pytest.mark.parametrize(("offset", "expected"), [(0, [100, 30, 50, 60]), (128, [100, 94, 114, 124])])
def test_augmented_is_half_of_residual_and_iframe(offset: float, expected: list[float]) -> None:
    assert clip_of("augmented", R, offset) == expected


@pytest.mark.parametrize(("offset", "expected"), [(0, [100, -40, 0, 20]), (128, [100, 88, 128, 148])])
def test_residual_follows_the_iframe(offset: float, expected: list[float]) -> None:
    assert clip_of("residual", R, offset) == expected


@pytest.mark.parametrize(("offset", "expected"), [(0, [-40, -40, 0, 20]), (128, [88, 88, 128, 148])])
def test_residual_only_shows_the_first_residual_twice(offset: float, expected: list[float]) -> None:
    assert clip_of("residual-only", R, offset) == expected


@pytest.mark.parametrize("offset", OFFSETS)
def test_motion_of_the_iframe_is_zero(offset: float) -> None:
    assert clip_of("motion", levels(3, -2, 7), offset) == [0, 3, -2, 7]


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_iframe_stands_alone(offset: float) -> None:
    assert clip_of("iframe", U_0, offset) == [100]


def test_a_clip_has_a_slot_a_frame_but_for_the_iframe_alone() -> None:
    lengths = {name: clip_format.num_slots(12) for name, clip_format in CLIP_FORMATS.items()}
    assert lengths.pop("iframe") == 1
    assert set(lengths.values()) == {12}


def test_a_batch_keeps_its_axes() -> None:
    random = np.random.default_rng(0)
    for clip_format in CLIP_FORMATS.values():
        channels = clip_format.num_channels
        frames = random.normal(size=(2, channels, 11, 6, 8))
        first, others = clip_format.slots(random.normal(size=(2, channels, 1, 6, 8)), frames, 0.0)
        assert np.concatenate([first, others], axis=2).shape == (2, channels, clip_format.num_slots(12), 6, 8)


def test_only_rebuilt_frames_and_motion_need_motion() -> None:
    assert {name for name, clip_format in CLIP_FORMATS.items() if clip_format.needs_motion} == {"rgb", "motion"}
    assert {name for name, clip_format in CLIP_FORMATS.items() if clip_format.num_channels == 2} == {"motion"}


def test_an_iframe_and_motion_alone_need_no_residuals() -> None:
    assert {name for name, clip_format in CLIP_FORMATS.items() if not clip_format.needs_residual} == {
        "iframe",
        "motion",
    }


def test_normalisation_is_that_of_the_published_network() -> None:
    assert (RGB_MEAN, RGB_SCALE) == ((124.0, 117.0, 104.0), 0.0167)
