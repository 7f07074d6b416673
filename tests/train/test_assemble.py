"""Clips equal their equations, whatever planes they come from."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import torch
from clips import CENTRE, EVERY_GOP, NUM_GOPS, STORED, assemble, cut, draw, expect, write_gops
from synthetic import StoredGop, encode, random_gop, shift, texture, trace_file
from torch.utils._python_dispatch import TorchDispatchMode

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.planes import planes_to_rgb
from mfcd_core.store.settings import StoreSettings
from mfcd_train.assemble import Assembler
from mfcd_train.loader import iter_batches

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch._ops import OpOverload

    from mfcd_core.store import Store

    Levels = NDArray[np.float64]

MEAN, SCALE = np.array([124.0, 117.0, 104.0]), 0.0167  # as the paper's network was published


@pytest.mark.parametrize(("pixel_format", "step"), STORED)
def test_rgb_clips_are_the_rebuilt_frames(
    stores: Mapping[tuple[str, int], Store], pixel_format: str, step: int
) -> None:
    store = stores[pixel_format, step]
    clips = assemble(store, Assembler(store.settings, 32, 16), EVERY_GOP, ["rgb"])["rgb"]
    for sample in range(NUM_GOPS):
        frames = store.read_gop("v", sample).rebuild_frames()
        assert np.array_equal(clips[sample].round(3), cut(frames, EVERY_GOP, sample, (32, 16)))


@pytest.mark.parametrize("offset", [0.0, 128.0])
@pytest.mark.parametrize(("pixel_format", "step"), STORED)
def test_every_format_follows_its_equation(
    stores: Mapping[tuple[str, int], Store], pixel_format: str, step: int, offset: float
) -> None:
    store = stores[pixel_format, step]
    clips = assemble(store, Assembler(store.settings, 32, 20, offset), EVERY_GOP, list(CLIP_FORMATS))
    assert list(clips) == list(CLIP_FORMATS)
    for name, sample in product(CLIP_FORMATS, range(NUM_GOPS)):
        expected = expect(store.read_gop("v", sample), name, offset)
        assert np.abs(clips[name][sample] - cut(expected, EVERY_GOP, sample, (32, 20))).max() < 1e-3, name


def test_a_format_is_the_same_alone_and_beside_others(stores: Mapping[tuple[str, int], Store]) -> None:
    store = stores["yuv420p", 2]
    assembler = Assembler(store.settings, 32, 16)
    together = assemble(store, assembler, EVERY_GOP, list(CLIP_FORMATS))
    for name in CLIP_FORMATS:  # those without motion are built from batches that did not read it
        assert np.array_equal(assemble(store, assembler, EVERY_GOP, [name])[name], together[name])


@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24"])
def test_a_store_without_compression_gives_the_same_clips(tmp_path: Path, pixel_format: str) -> None:
    clips = []
    for compression in ("zstd", "none"):
        settings = StoreSettings(32, 16, gop_size=4, pixel_format=pixel_format, compression=compression)
        gops = [random_gop(settings, np.random.default_rng(seed)) for seed in range(2)]
        store = write_gops(tmp_path / compression, settings, gops)
        draws = draw([0, 1], [0.0, 1.0], [1.0, 0.3], [False, True])
        clips.append(assemble(store, Assembler(settings, 32, 12), draws, list(CLIP_FORMATS)))
    for name in CLIP_FORMATS:
        assert np.array_equal(clips[0][name], clips[1][name]), name


def test_clips_are_normalised_by_the_published_constants(tmp_path: Path) -> None:
    settings = StoreSettings(16, 16, gop_size=2, pixel_format="rgb24")
    arrays = {array.name: np.zeros(array.shape, array.dtype) for array in settings.stored_arrays()}
    arrays["iframe/rgb"][:] = [124, 17, 204]
    arrays["motion"][:, 1, :, 4:] = 4
    store = write_gops(tmp_path, settings, [StoredGop(arrays, 2)])
    (batch,) = iter_batches(store, CENTRE, 1, with_motion=True, num_threads=1)
    clips = Assembler(settings, 16, 16)(batch, list(CLIP_FORMATS))
    assert {name: tuple(clip.shape) for name, clip in clips.items()} == {
        name: (1, clip_format.num_channels, clip_format.num_slots(2), 16, 16)
        for name, clip_format in CLIP_FORMATS.items()
    }
    pixel = {name: clip[0, :, :, 8, 8] for name, clip in clips.items()}
    expected = torch.tensor([0.0, -100 * 0.0167, 100 * 0.0167])
    torch.testing.assert_close(pixel["rgb"], torch.stack([expected, expected], 1))
    torch.testing.assert_close(pixel["residual"][:, 1], torch.tensor([-124.0, -117, -104]) * 0.0167)
    torch.testing.assert_close(pixel["augmented"][:, 1], torch.tensor([-62.0, 8.5 - 117, -2]) * 0.0167)
    torch.testing.assert_close(pixel["motion"], torch.tensor([[0.0, 0.0], [0.0, 4 / 16]]))


def test_rgb_is_what_pyav_gives_for_the_encoded_file(tmp_path: Path) -> None:
    tints = np.array([[0.5, 0.3, 0.9], [0.2, 0.8, 0.3]])
    still = sum(texture(64, 64, seed)[..., None] * tint for seed, tint in enumerate(tints))
    moved = np.stack([shift(still.transpose(2, 0, 1).reshape(-1, 64), 0, 1.5 * t) for t in range(12)])
    frames = moved.reshape(12, 3, 64, 64).transpose(0, 2, 3, 1).clip(0, 255).astype(np.uint8)
    path = encode(tmp_path / "v.mp4", frames)
    settings = StoreSettings(64, 64, residual_step=1)
    store = write_gops(tmp_path / "store", settings, trace_file(path, settings))
    clip = assemble(store, Assembler(settings, 64, 64), CENTRE, ["rgb"])["rgb"][0]
    with av.open(str(path)) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert clip.shape == decoded.shape
    assert np.ptp(decoded) > 150
    assert np.abs(clip - decoded).max() <= 2 + 1e-3


@pytest.fixture(scope="module")
def unique(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """GOPs whose pixels say where they are: frames, residuals and motion all hold (row, column); U_0(0, 0) is black."""
    settings = StoreSettings(32, 32, gop_size=3, pixel_format="rgb24", residual_step=1)
    place = np.moveaxis(np.indices((32, 32)), 0, -1)
    frame = np.concatenate([place, place[..., :1] * 0], -1)
    arrays = {
        "iframe/rgb": frame.astype(np.uint8),
        "residual/rgb": np.stack([frame, frame]).astype(np.int16),  # U_t = U_0(0, 0) + R_t
        "motion": np.stack([place.transpose(2, 0, 1)] * 2).astype(np.int16),  # p - D = (0, 0)
    }
    return write_gops(tmp_path_factory.mktemp("unique"), settings, [StoredGop(arrays, 3)])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("top", "left", "corner"), [(0, 0, (0, 0)), (1, 1, (12, 12)), (0, 1, (0, 12)), (0.5, 0, (6, 0))]
)
def test_all_formats_are_cut_and_flipped_alike(
    unique: Store, top: float, left: float, corner: tuple[int, int], *, flip: bool
) -> None:
    draws = draw([0], [top], [left], [flip])
    clips = assemble(unique, Assembler(unique.settings, 32, 20), draws, list(CLIP_FORMATS))
    rows, columns = np.meshgrid(*(np.arange(start, start + 20) for start in corner), indexing="ij")
    place = np.stack([rows, columns], -1)[:, :: -1 if flip else 1]
    whole = np.stack([place] * 3)
    negated = np.array([1, -1 if flip else 1])
    told = {
        "rgb": whole,
        "residual": whole,
        "residual-only": whole,
        "augmented": whole,  # (R + U_0) / 2 = (p + p) / 2
        "motion": whole * np.array([0, 1, 1]).reshape(-1, 1, 1, 1) * negated,
    }
    for name, expected in told.items():
        assert np.abs(clips[name][0][..., :2] - expected).max() < 1e-3, name


def test_a_flip_mirrors_and_negates_dx_alone(stores: Mapping[tuple[str, int], Store]) -> None:
    store = stores["yuv420p", 2]
    assembler = Assembler(store.settings, 32, 16)
    plain, flipped = (
        assemble(store, assembler, draw([2], [0.3], [0.6], [flip]), ["rgb", "motion"]) for flip in (False, True)
    )
    assert np.array_equal(flipped["rgb"], plain["rgb"][:, :, :, ::-1])
    assert np.array_equal(flipped["motion"], plain["motion"][:, :, :, ::-1] * [1, -1])
    assert np.abs(plain["motion"][..., 1]).max() > 3


@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24"])
def test_motion_out_of_the_crop_looks_up_the_frame(tmp_path: Path, pixel_format: str) -> None:
    settings = StoreSettings(32, 32, gop_size=2, pixel_format=pixel_format, residual_step=1)
    arrays = {array.name: np.zeros(array.shape, array.dtype) for array in settings.stored_arrays()}
    columns = np.arange(32, dtype=np.uint8)
    if pixel_format == "rgb24":
        arrays["iframe/rgb"][:] = (columns * 4)[:, None]
    else:
        arrays["iframe/luma"][:] = 16 + columns * 4
        arrays["iframe/chroma"][:] = 128
    arrays["motion"][:, 1, :, 4:] = 4  # every column from 4 on came from 4 pixels further left
    store = write_gops(tmp_path, settings, [StoredGop(arrays, 2)])
    draws = draw([0], [0], [0.5], [False])  # columns 8 to 24: the first four came from outside
    first, second = assemble(store, Assembler(settings, 32, 16), draws, ["rgb"])["rgb"][0][:, 0, :, 0]
    levels = planes_to_rgb({n.removeprefix("iframe/"): a for n, a in arrays.items() if n.startswith("iframe/")})
    assert np.array_equal(first.round(3), levels[0, 8:24, 0])
    assert np.array_equal(second.round(3), levels[0, 4:20, 0])


def test_chroma_looks_up_by_the_luma_that_it_covers(tmp_path: Path) -> None:
    """Odd motion at odd crops of chroma: the sample at (x, y) uses the look-up of luma (2x, 2y), halved."""
    settings = StoreSettings(32, 32, gop_size=2, residual_step=1)
    random = np.random.default_rng(5)
    arrays = random_gop(settings, random).arrays
    store = write_gops(tmp_path, settings, [StoredGop(arrays, 2)])
    draws = draw([0], [0.25], [0.75], [False])  # rows 2 to 26, columns 6 to 30
    clip = assemble(store, Assembler(settings, 32, 24), draws, ["rgb"])["rgb"][0]
    row, column = 7, 11  # of the crop's chroma: luma (14 + 2, 22 + 6) of the frame
    dy, dx = arrays["motion"][0, :, 16, 28].astype(int)
    blue, red = (
        np.clip(
            int(arrays["iframe/chroma"][c, (16 - dy) >> 1, (28 - dx) >> 1]) + arrays["residual/chroma"][0, c, 8, 14],
            0,
            255,
        )
        for c in (0, 1)
    )
    luma = np.clip(int(arrays["iframe/luma"][16 - dy, 28 - dx]) + arrays["residual/luma"][0, 16, 28], 0, 255)
    exact = 255 / 219 * (luma - 16) + 255 / 224 * np.array(
        [1.402 * (red - 128), -0.344136 * (blue - 128) - 0.714136 * (red - 128), 1.772 * (blue - 128)]
    )
    assert np.abs(clip[1, 2 * row, 2 * column] - exact.clip(0, 255)).max() <= 3  # each of three products is floored


class CountLarge(TorchDispatchMode):
    """Counts operations that compute something as large as one channel of every frame of a clip."""

    def __init__(self, num_pixels: int) -> None:
        super().__init__()
        self.num_pixels, self.names = num_pixels, list[str]()

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        found = func(*args, **(kwargs or {}))
        if not func.is_view and isinstance(found, torch.Tensor) and found.numel() >= self.num_pixels:
            self.names.append(str(func))
        return found


def test_a_clip_takes_a_handful_of_large_operations(
    stores: Mapping[tuple[str, int], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gathers crop and mirror; three convert, one clamps, one mixes and normalises."""
    store = stores["yuv420p", 2]
    (batch,) = iter_batches(store, EVERY_GOP, NUM_GOPS, with_motion=False, num_threads=1)
    monkeypatch.setattr("mfcd_train.assemble.CPU_PART", NUM_GOPS)
    with CountLarge(NUM_GOPS * (store.settings.gop_size - 1) * 16 * 16) as count:
        Assembler(store.settings, 32, 16)(batch, ["augmented"])
    assert len(count.names) == 7, count.names
