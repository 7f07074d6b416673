"""From encoded pictures to GOPs: arithmetic on known pans, the grid, tails, and files that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from synthetic import encode, pan, trace_file, zoom

from mfcd_core.errors import GopError, VideoError
from mfcd_core.gop import Gop
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.gops import GopTracer, iter_gops

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from synthetic import StoredGop

SIZE = (96, 128)  # H, W
SETTINGS = StoreSettings(width_px=128, height_px=96)
QUARTER_PIXELS = ["-flags", "+qpel"]


def to_gop(stored: StoredGop, settings: StoreSettings) -> Gop:
    names = [plane.name for plane in PIXEL_FORMATS[settings.pixel_format]]
    step = settings.residual_step
    return Gop(
        {name: stored.arrays[f"iframe/{name}"] for name in names},
        {name: stored.arrays[f"residual/{name}"].astype(np.int16) * np.int16(step) for name in names},
        stored.arrays["motion"],
        stored.real_frames,
        settings.pixel_format,
    )


def share_of_interior(motion: NDArray[np.int16], expected: tuple[int, int], margin: int) -> float:
    """Share of the pixels at least `margin` from the edge whose (dy, dx) is as expected; motion is (2, H, W)."""
    interior = motion[:, margin:-margin, margin:-margin]
    return float((interior == np.array(expected).reshape(2, 1, 1)).all(0).mean())


# Arithmetic: content that moves by v a frame came from p - v t.

PANS = [(0, 2), (0, -2), (1, 0), (-3, 0), (-1.5, 2), (0.5, -0.5), (2.5, 1.5)]


@pytest.mark.parametrize("velocity", PANS)
def test_motion_of_a_pan_is_velocity_times_time(tmp_path: Path, velocity: tuple[float, float]) -> None:
    """D_t = p - floor(p - v t + 1/2), order (dy, dx), for nearly all pixels that the picture held all the time."""
    (gop,) = trace_file(encode(tmp_path / "pan.mp4", pan(12, *velocity, size=SIZE)), SETTINGS)
    for t in range(1, 12):
        expected = tuple(-int(np.floor(-v * t + 0.5)) for v in velocity)
        margin = 8 + int(np.ceil(max(map(abs, velocity)) * t))
        assert share_of_interior(gop.arrays["motion"][t - 1], expected, margin) > 0.9, (t, expected)


@pytest.mark.parametrize(("velocity", "traced_as"), [((-1.5, 2), (-1, 2)), ((2.5, -0.5), (2, 0))])
def test_integer_trace_drops_the_fraction_of_every_step(
    tmp_path: Path, velocity: tuple[float, float], traced_as: tuple[int, int]
) -> None:
    settings = StoreSettings(128, 96, trace="integer")
    (gop,) = trace_file(encode(tmp_path / "pan.mp4", pan(12, *velocity, size=SIZE)), settings)
    for t in range(1, 12):
        expected = (traced_as[0] * t, traced_as[1] * t)
        margin = 8 + int(np.ceil(max(map(abs, velocity)) * t))
        assert share_of_interior(gop.arrays["motion"][t - 1], expected, margin) > 0.9, (t, expected)


@pytest.mark.parametrize("velocity", [(0.25, -0.75), (-0.25, 1.25), (0.5, -1.5)])
def test_quarter_pixels_add_up_exactly(tmp_path: Path, velocity: tuple[float, float]) -> None:
    path = encode(tmp_path / "pan.mp4", pan(12, *velocity, size=SIZE), options=QUARTER_PIXELS)
    (gop,) = trace_file(path, SETTINGS)
    for t in range(1, 12):
        expected = tuple(-int(np.floor(-v * t + 0.5)) for v in velocity)
        margin = 8 + int(np.ceil(max(map(abs, velocity)) * t))
        assert share_of_interior(gop.arrays["motion"][t - 1], expected, margin) > 0.95, (t, expected)


@pytest.mark.parametrize("factor", [1.02, 0.98, 1.03])
def test_motion_of_a_zoom_points_away_from_its_middle(tmp_path: Path, factor: float) -> None:
    """The content at p came from c + (p - c) / z^t.

    A block has one vector, so that a frame adds up to 1/8 pixel of rounding and 8 |z - 1| pixels between the middle
    and the edge of a block; the look-up rounds once.
    """
    path = encode(tmp_path / "zoom.mp4", zoom(12, factor, SIZE), options=QUARTER_PIXELS)
    (gop,) = trace_file(path, SETTINGS)
    from_middle = np.indices(SIZE) - (np.array(SIZE).reshape(2, 1, 1) - 1) / 2
    for t in range(1, 12):
        expected = from_middle - from_middle / factor**t
        error = np.abs(gop.arrays["motion"][t - 1] - expected)[:, 16:-16, 16:-16]
        limit = t * (1 / 8 + 8 * abs(factor - 1)) + 1 / 2
        assert (error <= limit).mean() > 0.99, t
        assert error.mean() < 1, t


def test_the_look_up_finds_the_pixels_that_moved(tmp_path: Path) -> None:
    """A whole-pixel pan needs next to no residual where the picture held the content; the I-frame itself does not."""
    settings = StoreSettings(128, 96, residual_step=1)
    (stored,) = trace_file(encode(tmp_path / "pan.mp4", pan(12, 1, -2, size=SIZE)), settings)
    gop = to_gop(stored, settings)
    frames = gop.rebuild_planes()["luma"].astype(int)
    interior = (slice(None), slice(32, -32), slice(32, -32))
    residual, difference = gop.residual["luma"][interior], (frames[1:] - frames[0])[interior]
    assert np.abs(residual).mean() < 0.1 * np.abs(difference).mean()


def test_a_still_picture_has_no_motion(tmp_path: Path) -> None:
    (gop,) = trace_file(encode(tmp_path / "still.mp4", pan(12, 0, 0, size=SIZE)), SETTINGS)
    assert not gop.arrays["motion"].any()


@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24"])
@pytest.mark.parametrize("gop_size", [4, 16])
def test_gops_rebuild_the_decoded_frames(tmp_path: Path, pixel_format: str, gop_size: int) -> None:
    """Against PyAV's own frames, at a width of no multiple of 16 (padded rows)."""
    settings = StoreSettings(100, 70, gop_size=gop_size, pixel_format=pixel_format, residual_step=1)
    frames = np.stack([pan(32, dy, -1.5, size=(70, 100), seed=dy) for dy in range(3)], axis=-1)
    path = encode(tmp_path / "colour.mp4", frames, gop_size)
    rebuilt = np.concatenate([to_gop(gop, settings).rebuild_frames() for gop in trace_file(path, settings)])
    with av.open(path) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    error = np.abs(rebuilt.astype(int) - decoded).max()
    assert error == 0 if pixel_format == "rgb24" else error <= 2


# Tails


@pytest.mark.parametrize(
    ("num_frames", "tail", "real_frames"),
    [
        (24, "auto", [12, 12]),
        (30, "auto", [12, 12]),
        (30, "drop", [12, 12]),
        (30, "pad", [12, 12, 6]),
        (25, "pad", [12, 12, 1]),
        (5, "auto", [5]),
        (5, "pad", [5]),
        (5, "drop", []),
        (1, "auto", [1]),
    ],
)
def test_an_incomplete_last_gop(tmp_path: Path, num_frames: int, tail: str, real_frames: list[int]) -> None:
    path = encode(tmp_path / "foreign.mp4", pan(num_frames, 0, 1, size=SIZE))
    settings = StoreSettings(128, 96, tail=tail)
    assert list(iter_gops(path, settings, GopTracer(settings))) == real_frames


def test_padding_repeats_the_last_frame(tmp_path: Path) -> None:
    settings = StoreSettings(128, 96, tail="pad", residual_step=1)
    gop = to_gop(trace_file(encode(tmp_path / "v.mp4", pan(17, 1, -1.5, size=SIZE)), settings)[1], settings)
    assert gop.real_frames == 5
    frames = gop.rebuild_planes()["luma"]
    assert (frames[5:] == frames[4]).all()
    assert (gop.motion[4:] == gop.motion[3]).all()
    assert (frames[3] != frames[4]).any()


# What is refused


def trace_all(path: Path) -> list[int]:
    return list(iter_gops(path, SETTINGS, GopTracer(SETTINGS)))


@pytest.mark.parametrize(("gop_size", "said"), [(10, "frame 10 is I, expected P"), (24, "frame 12 is P, expected I")])
def test_a_broken_grid_is_named_with_its_frame(tmp_path: Path, gop_size: int, said: str) -> None:
    path = encode(tmp_path / "v.mp4", pan(24, 0, 1, size=SIZE), gop_size)
    with pytest.raises(GopError, match=f"{said} on a grid of 12; run mfcd-prep encode"):
        trace_all(path)


def test_b_frames_are_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", pan(24, 0, 1, size=SIZE), options=["-bf", "2"])
    with pytest.raises(VideoError, match="mfcd-prep encode"):
        trace_all(path)


def test_another_frame_size_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", pan(12, 0, 1, size=(64, 48)))
    said = "frame 0 is 48x64, expected the store's 128x96; encode it with --size 128x96"
    with pytest.raises(VideoError, match=said) as raised:
        trace_all(path)
    assert raised.value.problem == "other-format"


def test_another_chroma_format_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", pan(12, 0, 1, size=SIZE), options=["-c:v", "libx264", "-pix_fmt", "yuv444p"])
    with pytest.raises(VideoError, match="pixel format yuv444p, expected yuv420p") as raised:
        trace_all(path)
    assert raised.value.problem == "other-format"


def test_playlists_do_not_lead_to_other_files(tmp_path: Path) -> None:
    encode(tmp_path / "secret.mp4", pan(12, 0, 1, size=SIZE))
    for text in ("ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"):
        (tmp_path / "v.mp4").write_text(text)
        with pytest.raises(VideoError, match="cannot be read as a video"):
            trace_all(tmp_path / "v.mp4")


def test_damage_that_the_decoder_conceals_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", pan(24, 1, 2, size=SIZE))
    data = path.read_bytes()
    damaged = bytearray(data)
    middle = (data.index(b"mdat") + data.index(b"moov")) // 2
    damaged[middle : middle + 64] = bytes(64)
    path.write_bytes(damaged)
    with pytest.raises(VideoError, match="the decoder concealed damage") as raised:
        trace_all(path)
    assert raised.value.problem == "damaged"


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(5000)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(VideoError, match="cannot be read as a video"):
        trace_all(tmp_path / "v.mp4")
    with pytest.raises(VideoError, match="No such file"):
        trace_all(tmp_path / "missing.mp4")
