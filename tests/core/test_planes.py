"""Our RGB against PyAV's, which users have from decoding by themselves, and the linear part of it for residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from synthetic import encode_clip

from mfcd_core.planes import PIXEL_FORMATS, planes_to_rgb, residual_to_rgb

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_ERROR = 2  # levels, DESIGN 2

# BT.601 limited range: R = A (Y, Cb, Cr) without the offsets.
A = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]) * (255 / np.array([219, 224, 224]))


def planes_of(stacked: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Luma and chroma of PyAV's (H * 3 / 2, W) array of a yuv420p frame."""
    height, width = len(stacked) * 2 // 3, stacked.shape[1]
    return {"luma": stacked[:height], "chroma": stacked[height:].reshape(2, height // 2, width // 2)}


def error_in_levels(frame: av.VideoFrame) -> int:
    theirs = frame.to_ndarray(format="rgb24").astype(int)
    ours = planes_to_rgb(planes_of(frame.to_ndarray()))
    assert ours.dtype == np.uint8
    return int(np.abs(ours - theirs).max())


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.integers(1, 50))
@example(0, 128, 128)
@example(1, 56, 127)
@example(2, 120, 160)
def test_rgb_is_pyavs_on_any_planes_of_any_even_size(seed: int, half_height: int, half_width: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, (half_height * 3, half_width * 2), np.uint8)
    assert error_in_levels(av.VideoFrame.from_ndarray(levels, format="yuv420p")) <= MAX_ERROR


@pytest.mark.parametrize("clip", ["hugging/set1_2_1_1.avi", "kicking/set2_27_15_2.avi"])
@pytest.mark.parametrize("size", [(256, 256), (250, 142)])
def test_rgb_is_pyavs_on_real_clips(real_clips: Path, tmp_path: Path, clip: str, size: tuple[int, int]) -> None:
    path = encode_clip(tmp_path / "clip.mp4", real_clips / "ut-interaction" / clip, size, num_frames=13)
    with av.open(path) as container:
        errors = [error_in_levels(frame) for frame in container.decode(video=0)]
    assert len(errors) == 13
    assert max(errors) <= MAX_ERROR


def test_black_white_and_grey() -> None:
    luma = np.repeat(np.array([[0, 16, 126, 235, 255, 16]], np.uint8), 2, axis=0)
    rgb = planes_to_rgb({"luma": luma, "chroma": np.full((2, 1, 3), 128, np.uint8)})
    assert rgb[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]
    assert (rgb == rgb[..., :1]).all()


def test_leading_axes_are_kept() -> None:
    rng = np.random.default_rng(0)
    luma, chroma = rng.integers(0, 256, (3, 5, 4, 6), np.uint8), rng.integers(0, 256, (3, 5, 2, 2, 3), np.uint8)
    rgb = planes_to_rgb({"luma": luma, "chroma": chroma})
    assert rgb.shape == (3, 5, 4, 6, 3)
    assert np.array_equal(rgb[2, 4], planes_to_rgb({"luma": luma[2, 4], "chroma": chroma[2, 4]}))


@given(st.integers(0, 2**32 - 1), st.integers(1, 100))
def test_residual_to_rgb_is_the_linear_part(seed: int, limit: int) -> None:
    """R = A R_yuv: no offset, every chroma sample for its four pixels, clamped to -255..255."""
    rng = np.random.default_rng(seed)
    luma = rng.integers(-limit, limit + 1, (3, 8, 10)).astype(np.int16)
    chroma = rng.integers(-limit, limit + 1, (3, 2, 4, 5)).astype(np.int16)
    rgb = residual_to_rgb({"luma": luma, "chroma": chroma})
    blue, red = (np.kron(chroma[:, c], np.ones((1, 2, 2))) for c in (0, 1))
    expected = np.clip(np.stack([luma, blue, red], axis=-1) @ A.T, -255, 255)
    assert rgb.dtype == np.float32
    assert np.abs(rgb - expected).max() < 0.05


@given(st.integers(0, 2**32 - 1))
def test_residual_to_rgb_is_the_difference_of_two_frames(seed: int) -> None:
    """Where no level is clamped, RGB of the residual = residual of the RGB, but for the frames' rounding."""
    rng = np.random.default_rng(seed)
    frames = {
        "luma": rng.integers(90, 150, (2, 8, 10), np.uint8),
        "chroma": rng.integers(108, 148, (2, 2, 4, 5), np.uint8),
    }
    residual = {name: plane[1].astype(np.int16) - plane[0] for name, plane in frames.items()}
    first, second = planes_to_rgb(frames).astype(int)
    assert np.abs(residual_to_rgb(residual) - (second - first)).max() <= 3


def test_rgb_planes_pass_as_they_are() -> None:
    residual = np.array([[[-255, 0, 255]]], np.int16)
    assert np.array_equal(residual_to_rgb({"rgb": residual}), residual)
    frame = np.array([[[1, 2, 3]]], np.uint8)
    assert np.array_equal(planes_to_rgb({"rgb": frame}), frame)


def test_shapes_of_planes() -> None:
    shapes = {plane.name: plane.shape(6, 10) for planes in PIXEL_FORMATS.values() for plane in planes}
    assert shapes == {"luma": (6, 10), "chroma": (2, 3, 5), "rgb": (6, 10, 3)}
