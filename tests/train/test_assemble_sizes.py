"""Clips of other sizes than the store."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from clips import CENTRE, EVERY_GOP, NUM_GOPS, assemble, cut, draw, expect, write_gops
from synthetic import StoredGop, random_gop

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.errors import UsageError
from mfcd_core.store.settings import StoreSettings
from mfcd_train.assemble import Assembler
from mfcd_train.loader import iter_batches

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store import Store

    Levels = NDArray[np.float64]

MEAN, SCALE = np.array([124.0, 117.0, 104.0]), 0.0167  # as the paper's network was published


def grey_store(folder: Path, settings: StoreSettings, levels: NDArray[Any]) -> Store:
    """One GOP that shows the same grey picture of `levels` (H, W) throughout."""
    arrays = {array.name: np.zeros(array.shape, array.dtype) for array in settings.stored_arrays()}
    arrays["iframe/rgb"][:] = levels[..., None]
    return write_gops(folder, settings, [StoredGop(arrays, settings.gop_size)])


RESIZES = [
    ((64, 64), 32, 32),
    ((64, 64), 32, 24),
    ((48, 64), 32, 20),
    ((32, 32), 48, 40),
    ((64, 48), 45, 33),
    ((32, 48), 37, 37),
]


@pytest.mark.parametrize(("store_size", "frame_size", "crop_size"), RESIZES)
def test_a_constant_stays_constant_at_any_size(
    tmp_path: Path, store_size: tuple[int, int], frame_size: int, crop_size: int
) -> None:
    height, width = store_size
    settings = StoreSettings(width, height, gop_size=3, pixel_format="rgb24")
    store = grey_store(tmp_path, settings, np.full(store_size, 77))
    draws = draw([0, 0], [0.2, 1], [0.9, 0], [False, True])
    clips = assemble(store, Assembler(settings, frame_size, crop_size), draws, ["rgb", "augmented", "residual"])
    for name, level in {"rgb": 77, "augmented": 38.5, "residual": 0}.items():
        assert clips[name].shape == (2, 3, crop_size, crop_size, 3)
        assert np.abs(clips[name][:, 1:] - level).max() < 1e-3
        assert np.abs(clips[name][:, 0] - 77).max() < 1e-3


@pytest.mark.parametrize(("store_size", "frame_size", "crop_size"), RESIZES)
def test_a_ramp_stays_a_ramp_at_any_size(
    tmp_path: Path, store_size: tuple[int, int], frame_size: int, crop_size: int
) -> None:
    height, width = store_size
    settings = StoreSettings(width, height, gop_size=2, pixel_format="rgb24")
    store = grey_store(tmp_path, settings, 2 * np.indices(store_size)[0] + 1 * np.indices(store_size)[1])
    whole = assemble(store, Assembler(settings, frame_size, frame_size), CENTRE, ["rgb"])["rgb"][0, 0, :, :, 0]
    rows, columns = (  # pixel i covers [i, i + 1): its centre in the picture of another size
        (np.arange(frame_size) + 0.5) * side / frame_size - 0.5 for side in store_size
    )
    inside = slice(3, -3)  # at the edge the filter has nothing to lean on
    error = (whole - (2 * rows[:, None] + columns))[inside, inside]
    assert np.abs(error).max() < 3 * 0.1  # a filter of few taps is off by up to 0.07 pixels an axis
    assert abs(error.mean()) < 0.01  # and not shifted
    draws = draw([0], [1], [0.4], [False])
    cropped = assemble(store, Assembler(settings, frame_size, crop_size), draws, ["rgb"])["rgb"][0]
    expected_crop = cut(np.stack([whole[..., None]] * 2), draws, 0, (frame_size, crop_size))
    assert np.abs(cropped[..., :1] - expected_crop).max() < 1e-3


def test_motion_is_scaled_with_the_picture(tmp_path: Path) -> None:
    settings = StoreSettings(64, 48, gop_size=2, pixel_format="rgb24")
    arrays = {array.name: np.zeros(array.shape, array.dtype) for array in settings.stored_arrays()}
    arrays["motion"][:, :, 6:, :56] = np.array([6, -8])[:, None, None]  # where p - D lies in the picture
    store = write_gops(tmp_path, settings, [StoredGop(arrays, 2)])
    clips = assemble(store, Assembler(settings, 32, 32), draw([0, 0], [0, 0], [0, 0], [False, True]), ["motion"])
    plain, flipped = clips["motion"][:, 1, 6:]
    assert np.abs(plain[:, :26] - [4, -4]).max() < 1e-4
    assert np.abs(flipped[:, 6:] - [4, 4]).max() < 1e-4
    assert np.abs(clips["motion"][:, 0]).max() == 0


@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24"])
def test_odd_crops_of_a_store_of_the_right_size_are_not_resampled(
    stores: Mapping[tuple[str, int], Store], pixel_format: str
) -> None:
    store = stores[pixel_format, 2]
    clips = assemble(store, Assembler(store.settings, 32, 21), EVERY_GOP, ["rgb", "augmented"])
    for name, sample in product(clips, range(NUM_GOPS)):
        expected = cut(expect(store.read_gop("v", sample), name, 0.0), EVERY_GOP, sample, (32, 21))
        assert np.abs(clips[name][sample] - expected).max() < 1e-2


def test_teacher_and_student_see_the_same_after_resizing(tmp_path: Path) -> None:
    """With no motion U_t = U_0 + R_t, so 2 augmented_t - U_0 = R_t = rgb_t - U_0, resized or not."""
    random = np.random.default_rng(3)
    settings = StoreSettings(48, 32, gop_size=4, pixel_format="rgb24", residual_step=1)
    arrays = dict(random_gop(settings, random).arrays)
    arrays["motion"] = arrays["motion"] * np.int16(0)
    frames = random.integers(0, 256, (4, 32, 48, 3))
    arrays["iframe/rgb"], arrays["residual/rgb"] = frames[0].astype(np.uint8), (frames[1:] - frames[0]).astype(np.int16)
    store = write_gops(tmp_path, settings, [StoredGop(arrays, 4)])
    draws = draw([0], [0.7], [0.1], [True])
    clips = assemble(store, Assembler(settings, 40, 28), draws, ["rgb", "augmented"])
    rgb, augmented = clips["rgb"][0], clips["augmented"][0]
    assert np.abs(2 * augmented[1:] - rgb[:1] - (rgb[1:] - rgb[:1])).max() < 1e-2
    assert np.abs(augmented[0] - rgb[0]).max() < 1e-3


def test_a_store_of_longer_gops_gives_longer_clips(tmp_path: Path) -> None:
    settings = StoreSettings(16, 16, gop_size=16)
    store = write_gops(tmp_path, settings, [random_gop(settings, np.random.default_rng(0))])
    clips = assemble(store, Assembler(settings, 16, 16), CENTRE, list(CLIP_FORMATS))
    assert {name: len(clip[0]) for name, clip in clips.items()} == {
        name: clip_format.num_slots(16) for name, clip_format in CLIP_FORMATS.items()
    }


@pytest.mark.parametrize("crop_size", [0, 33])
def test_a_crop_that_is_no_part_of_the_frame_is_refused(crop_size: int) -> None:
    with pytest.raises(UsageError, match=f"crop_size {crop_size}: expected 1 to 32"):
        Assembler(StoreSettings(64, 64), 32, crop_size)


def test_the_assembler_leaves_the_batch_alone(stores: Mapping[tuple[str, int], Store]) -> None:
    store = stores["yuv420p", 1]
    (batch,) = iter_batches(store, EVERY_GOP, NUM_GOPS, with_motion=True, num_threads=1)
    before = {name: plane.clone() for name, plane in batch.planes.items()}
    Assembler(store.settings, 32, 32)(batch, list(CLIP_FORMATS))
    assert all(torch.equal(batch.planes[name], plane) for name, plane in before.items())
