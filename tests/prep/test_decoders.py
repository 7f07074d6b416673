"""One contract for every decoder: what it reads, what it refuses, and that either one witnesses the other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from synthetic import encode, encode_clip, pan
from tiny_videos import run_tool, types_by_tool

from mfcd_core.errors import VideoError
from mfcd_prep.decode import DECODERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from mfcd_prep.decode import DecodedFrame

P_ONLY_H264 = ("-c:v", "libx264", "-bf", "0", "-refs", "1", "-sc_threshold", "0", "-pix_fmt", "yuv420p")
SIZE = (70, 100)  # H, W: no multiples of 16
needs_mv_extractor = pytest.mark.skipif(
    find_spec("mvextractor") is None, reason="motion-vector-extractor is for Linux on x86-64 alone"
)
each_decoder = pytest.mark.parametrize("decoder", ["pyav", pytest.param("mv-extractor", marks=needs_mv_extractor)])


@dataclass(frozen=True)
class Kept:
    """One frame, copied."""

    picture_type: str
    rgb: NDArray[np.uint8]
    blocks: NDArray[np.int32]


def keep(frame: DecodedFrame) -> Kept:
    (sheet,) = frame.sheets
    rgb = sheet[:, : 3 * frame.width_px].reshape(frame.height_px, frame.width_px, 3)
    return Kept(frame.picture_type, rgb.copy(), frame.blocks.copy())


def iter_frames(decoder: str, path: Path, trace: str = "subpel") -> Iterator[DecodedFrame]:
    return DECODERS[decoder].iter_frames(path, "rgb24", trace)


def decode(decoder: str, path: Path, trace: str = "subpel") -> list[Kept]:
    return [keep(frame) for frame in iter_frames(decoder, path, trace)]


def colour_pan(num_frames: int) -> NDArray[np.uint8]:
    return np.stack([pan(num_frames, 1, -1.5, size=SIZE, seed=seed) for seed in range(3)], axis=-1)


def open_descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def by_library(path: Path) -> list[tuple[NDArray[np.uint8], int]]:
    """RGB and number of vectors of every frame, as a user of PyAV gets them."""
    found = []
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(video=0):
            vectors = frame.side_data.get("MOTION_VECTORS")
            found.append((frame.to_ndarray(format="rgb24"), 0 if vectors is None else len(vectors)))
    return found


def mpeg4(folder: Path, _real_clips: Path) -> Path:
    return encode(folder / "v.mp4", colour_pan(30))


def mpeg4_in_avi(folder: Path, _real_clips: Path) -> Path:
    return encode(folder / "v.avi", colour_pan(15))


def small_blocks(folder: Path, _real_clips: Path) -> Path:
    return encode(folder / "v.mp4", colour_pan(15), options=["-flags", "+mv4+qpel", "-mbd", "rd"])


def h264(folder: Path, _real_clips: Path) -> Path:
    return encode(folder / "v.mp4", colour_pan(30), options=P_ONLY_H264)


def real_mpeg4(folder: Path, real_clips: Path) -> Path:
    return encode_clip(folder / "v.mp4", min((real_clips / "ut-interaction" / "hugging").iterdir()))


def real_h264(folder: Path, real_clips: Path) -> Path:
    clip = min((real_clips / "ut-interaction" / "kicking").iterdir())
    run_tool(
        "-v", "error", "-i", f"file:{clip}", "-frames:v", "36", "-vf", "scale=256:256", *P_ONLY_H264, f"{folder}/v.mp4"
    )
    return folder / "v.mp4"


def real_xvid_in_avi(_folder: Path, real_clips: Path) -> Path:
    return real_clips / "odd" / "ucf101_v_Basketball_g01_c01.avi"


VIDEOS = [mpeg4, mpeg4_in_avi, small_blocks, h264, real_mpeg4, real_h264, real_xvid_in_avi]


@pytest.fixture(params=VIDEOS, ids=lambda make: make.__name__)
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make: Callable[[Path, Path], Path] = request.param
    is_real = make.__name__.startswith("real")
    return make(tmp_path, request.getfixturevalue("real_clips") if is_real else tmp_path)


# What is read


@each_decoder
def test_frames_types_and_sizes_are_those_of_other_tools(decoder: str, video: Path) -> None:
    frames, expected = decode(decoder, video), by_library(video)
    assert "".join(frame.picture_type for frame in frames) == types_by_tool(video)
    assert [frame.rgb.shape for frame in frames] == [rgb.shape for rgb, _ in expected]
    assert [len(frame.blocks) for frame in frames] == [num_vectors for _, num_vectors in expected]


@each_decoder
def test_rgb_is_that_of_the_library_within_two_levels(decoder: str, video: Path) -> None:
    for frame, (rgb, _) in zip(decode(decoder, video), by_library(video), strict=True):
        assert np.abs(frame.rgb.astype(int) - rgb).max() <= 2


@needs_mv_extractor
@pytest.mark.parametrize("trace", ["subpel", "integer"])
def test_blocks_are_the_same_from_every_decoder(video: Path, trace: str) -> None:
    first, *others = (decode(decoder, video, trace) for decoder in DECODERS)
    assert sum(bool(frame.blocks[:, 4:].any()) for frame in first) > len(first) / 3
    for other in others:
        assert all(np.array_equal(a.blocks, b.blocks) for a, b in zip(first, other, strict=True))


@each_decoder
def test_decoding_again_gives_the_same(decoder: str, video: Path) -> None:
    first, second = decode(decoder, video), decode(decoder, video)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.rgb, b.rgb)
        assert np.array_equal(a.blocks, b.blocks)


@each_decoder
def test_b_frames_are_named_and_have_no_blocks(decoder: str, tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", colour_pan(15), options=["-bf", "2"])
    frames = decode(decoder, path)
    assert "".join(frame.picture_type for frame in frames) == types_by_tool(path)
    assert {len(frame.blocks) for frame in frames if frame.picture_type == "B"} == {0}


# What is refused


def missing(folder: Path) -> Path:
    return folder / "missing.mp4"


def empty(folder: Path) -> Path:
    (folder / "v.mp4").write_bytes(b"")
    return folder / "v.mp4"


def garbage(folder: Path) -> Path:
    (folder / "v.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder / "v.mp4"


def playlist(folder: Path) -> Path:
    encode(folder / "secret.mp4", pan(12, 0, 1))
    (folder / "v.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    return folder / "v.mp4"


def audio_only(folder: Path) -> Path:
    run_tool("-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", str(folder / "v.mp4"))
    return folder / "v.mp4"


def truncated(folder: Path) -> Path:
    path = encode(folder / "v.avi", colour_pan(24))
    path.write_bytes(path.read_bytes()[:100])
    return path


def damaged(folder: Path) -> Path:
    path = encode(folder / "v.mp4", colour_pan(24))
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + data.index(b"moov")) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
    return path


def full_chroma(folder: Path) -> Path:
    return encode(folder / "v.mp4", colour_pan(12), options=["-c:v", "libx264", "-pix_fmt", "yuv444p"])


@each_decoder
@pytest.mark.parametrize(
    "make",
    [missing, empty, garbage, playlist, audio_only, truncated, damaged, full_chroma],
    ids=lambda make: make.__name__,
)
def test_files_that_cannot_be_used_give_one_line(decoder: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(VideoError) as raised:
        decode(decoder, path)
    assert len(str(raised.value).splitlines()) == 1


@needs_mv_extractor
@pytest.mark.parametrize(("name", "options"), [("v.mkv", []), ("v.webm", ["-c:v", "libvpx-vp9"])])
def test_the_old_decoder_is_given_mp4_and_avi_alone(tmp_path: Path, name: str, options: list[str]) -> None:
    path = encode(tmp_path / name, colour_pan(3), options=options)
    assert len(decode("pyav", path)) == 3
    with pytest.raises(VideoError, match=r"mfcd-prep encode"):
        decode("mv-extractor", path)


@needs_mv_extractor
def test_the_old_decoder_is_given_two_codecs_alone(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", colour_pan(3), options=["-c:v", "libvpx-vp9"])
    with pytest.raises(VideoError, match=r"codec .*vp9, expected MPEG-4 or H.264"):
        decode("mv-extractor", path)


@each_decoder
@pytest.mark.parametrize("name", ["-v.mp4", "a b:c.mp4", "%03d.mp4", "größe.mp4", "http:x.mp4"])
def test_names_are_files_and_nothing_else(
    decoder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "v.mp4", colour_pan(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(decode(decoder, Path(name))) == 3


@needs_mv_extractor
def test_a_name_that_is_not_text_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    encode(tmp_path / "v.mp4", colour_pan(3)).rename(path)
    with pytest.raises(VideoError, match="cannot"):
        decode("mv-extractor", path)


@each_decoder
def test_stopping_early_leaves_no_descriptor_open(decoder: str, tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", colour_pan(24))
    before = open_descriptors()
    for _ in range(5):
        frames = iter_frames(decoder, path)
        assert len(list(islice(frames, 3))) == 3
        assert len(open_descriptors()) > len(before)
        frames.close()
        assert open_descriptors() == before


@each_decoder
def test_refused_files_leave_no_descriptor_open(decoder: str, tmp_path: Path) -> None:
    paths = [make(tmp_path) for make in (damaged, audio_only, garbage)]
    before = open_descriptors()
    for path in paths:
        with pytest.raises(VideoError):
            decode(decoder, path)
    assert open_descriptors() == before
