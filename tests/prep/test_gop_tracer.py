"""GOPs against witnesses that share no code with the kernels: plain NumPy, and CoViAR's accumulation."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from coviar import accumulate
from hypothesis import given
from hypothesis import strategies as st
from synthetic import trace_file

from mfcd_core.blocks import MOTION_VECTOR, blocks_from_vectors
from mfcd_core.gop import Gop, signed_motion
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.audit import audit_gop, iter_pictures
from mfcd_prep.decode import DecodedFrame, iter_frames
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.gops import GopTracer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_prep.audit import Picture

PADDING = 5  # bytes that the decoder appends to each row


@st.composite
def vector_lists(draw: st.DrawFn, size: tuple[int, int]) -> NDArray[Any]:
    """Any blocks: overlapping, sticking out, outside; sources far outside; fractions of halves and quarters."""
    height, width = size
    motion, sides = st.integers(-150, 150), st.sampled_from([4, 8, 16])
    places = (st.integers(-16, width + 16), st.integers(-16, height + 16))
    rows = draw(st.lists(st.tuples(*places, sides, sides, motion, motion, st.sampled_from([1, 2, 4])), max_size=12))
    vectors = np.zeros(len(rows), MOTION_VECTOR)
    names = ("dst_x", "dst_y", "w", "h", "motion_x", "motion_y", "motion_scale")
    for name, values in zip(names, zip(*rows, strict=True), strict=bool(rows)):
        vectors[name] = values
    for axis in "xy":  # as the codec does: without the fraction, toward zero
        vectors[f"src_{axis}"] = vectors[f"dst_{axis}"] + np.trunc(
            vectors[f"motion_{axis}"] / np.maximum(vectors["motion_scale"], 1)
        ).astype(int)
    vectors["source"] = -1
    return vectors


@st.composite
def store_settings(draw: st.DrawFn) -> StoreSettings:
    return StoreSettings(
        width_px=2 * draw(st.integers(1, 26)),
        height_px=2 * draw(st.integers(1, 26)),
        gop_size=draw(st.integers(2, 16)),
        pixel_format=draw(st.sampled_from(list(PIXEL_FORMATS))),
        trace=draw(st.sampled_from(["subpel", "integer"])),
        residual_step=draw(st.sampled_from([1, 2, 4])),
    )


def random_picture(settings: StoreSettings, rng: np.random.Generator) -> dict[str, NDArray[np.uint8]]:
    shapes = {
        plane.name: plane.shape(settings.height_px, settings.width_px) for plane in PIXEL_FORMATS[settings.pixel_format]
    }
    return {name: rng.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}


def to_frame(picture: dict[str, NDArray[np.uint8]], settings: StoreSettings) -> DecodedFrame:
    """The picture as a decoder gives it: sheets of padded rows."""
    if settings.pixel_format == "rgb24":
        sheets = [picture["rgb"].reshape(settings.height_px, -1)]
    else:
        sheets = [picture["luma"], *picture["chroma"]]
    padded = tuple(np.pad(sheet, ((0, 0), (0, PADDING)), constant_values=77) for sheet in sheets)
    return DecodedFrame("P", settings.width_px, settings.height_px, padded, np.zeros((0, 6), np.int32))


def trace_gop(pictures: list[Picture], settings: StoreSettings) -> Gop:
    tracer = GopTracer(settings)
    tracer.begin(to_frame(pictures[0][0], settings))
    for position, (picture, vectors) in enumerate(pictures[1:], 1):
        tracer.add(position, to_frame(picture, settings), blocks_from_vectors(vectors, settings.trace))
    names = [plane.name for plane in PIXEL_FORMATS[settings.pixel_format]]
    return Gop(
        {name: tracer.arrays[f"iframe/{name}"] for name in names},
        {name: tracer.arrays[f"residual/{name}"].astype(np.int16) * settings.residual_step for name in names},
        signed_motion(tracer.arrays["motion"]),
        settings.gop_size,
        settings.pixel_format,
    )


@given(st.data(), store_settings(), st.integers(0, 2**32 - 1))
def test_plain_numpy_agrees_on_any_vectors(data: st.DataObject, settings: StoreSettings, seed: int) -> None:
    """Motion on every pixel; U_0(p - D) + R within half a step on every sample of every plane."""
    rng = np.random.default_rng(seed)
    lists = vector_lists((settings.height_px, settings.width_px))
    pictures: list[Picture] = [(random_picture(settings, rng), None)]
    pictures += [(random_picture(settings, rng), data.draw(lists)) for _ in range(settings.gop_size - 1)]
    gop = trace_gop(pictures, settings)
    assert list(audit_gop(gop, pictures, settings.trace, settings.residual_step)) == []


# CoViAR: the same wherever no source of a pixel's chain lies outside the picture


@given(st.data(), st.tuples(st.integers(1, 26), st.integers(1, 26)), st.integers(0, 2**32 - 1))
def test_integer_motion_is_what_coviar_accumulates(data: st.DataObject, half_size: tuple[int, int], seed: int) -> None:
    size = (2 * half_size[0], 2 * half_size[1])
    settings = StoreSettings(size[1], size[0], gop_size=4, trace="integer")
    rng = np.random.default_rng(seed)
    pictures: list[Picture] = [(random_picture(settings, rng), None)]
    pictures += [(random_picture(settings, rng), data.draw(vector_lists(size))) for _ in range(3)]
    motion = trace_gop(pictures, settings).motion
    for t, (expected, left) in enumerate(accumulate((vectors for _, vectors in pictures[1:]), size)):
        assert (motion[t] == expected)[:, ~left].all()


@pytest.fixture(scope="module")
def encoded_clip(real_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with a moving person, by `mfcd-prep encode`, small enough for loops over pixels."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "source").mkdir()
    clip = real_clips / "ut-interaction" / "pushing" / "set2_52_19_5.avi"
    shutil.copy(clip, folder / "source")
    encode_videos(folder / "source", folder / "encoded", EncodeSettings(size=(128, 96)))
    return folder / "encoded" / f"{clip.stem}.mp4"


def test_integer_motion_of_a_real_clip_is_what_coviar_accumulates(encoded_clip: Path) -> None:
    settings = StoreSettings(128, 96, trace="integer")
    motion = trace_file(encoded_clip, settings)[1].arrays["motion"]
    vectors = [vectors for _, vectors in iter_pictures(encoded_clip, "yuv420p")][13:24]
    assert motion.any()
    shares = []
    for t, (expected, left) in enumerate(accumulate([v for v in vectors if v is not None], (96, 128))):
        assert (motion[t] == expected)[:, ~left].all(), t
        shares.append((~left).mean())
    assert len(shares) == 11
    assert min(shares) > 0.5


def test_vectors_are_read_as_pyav_reads_them(encoded_clip: Path) -> None:
    frames = [frame.blocks.copy() for frame in iter_frames(encoded_clip, "yuv420p", "subpel")]
    pictures = [vectors for _, vectors in iter_pictures(encoded_clip, "yuv420p")]
    assert len(frames) == len(pictures)
    for blocks, vectors in zip(frames, pictures, strict=True):
        assert len(blocks) == (0 if vectors is None else len(vectors))
        if vectors is not None:
            assert np.array_equal(blocks[:, 5], -4 * vectors["motion_x"] // vectors["motion_scale"])
            assert np.array_equal(blocks[:, 0] + blocks[:, 2] // 2, vectors["dst_y"])
