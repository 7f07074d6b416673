"""Small videos and stores of known content, shared by the tests."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imageio_ffmpeg
import numpy as np

from mfcd_core.gop import signed_motion
from mfcd_core.store.index import (
    GOPS,
    NO_LABEL,
    ShardEntry,
    Shards,
    StoreIndex,
    file_checksum,
    split_rows,
    write_index,
)
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.places import gop_place_dtype
from mfcd_core.store.videos import Videos
from mfcd_core.store.writer import ShardWriter
from mfcd_prep.gops import GopTracer, iter_gops

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store.settings import StoreSettings

MPEG4 = [
    "-c:v",
    "mpeg4",
    "-pix_fmt",
    "yuv420p",
    "-bf",
    "0",
    "-sc_threshold",
    "1000000000",
    "-q:v",
    "2",
    "-threads",
    "1",
]
TO_TEXTURE_STD = 40.0


def texture(height_px: int, width_px: int, seed: int = 0, detail_px: float = 4.0) -> NDArray[np.float64]:
    """Smooth noise around mid-grey that continues over its edges, (H, W); details of about `detail_px` pixels."""
    noise = np.random.default_rng(seed).standard_normal((height_px, width_px))
    frequency = np.hypot(np.fft.fftfreq(height_px)[:, None], np.fft.fftfreq(width_px))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((frequency * detail_px) ** 2) * 2)).real
    picture: NDArray[np.float64] = 128 + (smooth - smooth.mean()) / smooth.std() * TO_TEXTURE_STD
    return picture


def shift(picture: NDArray[np.float64], dy: float, dx: float) -> NDArray[np.float64]:
    """The picture moved down by `dy` and right by `dx` pixels, any fraction, around its edges."""
    height, width = picture.shape
    phase = np.fft.fftfreq(height)[:, None] * dy + np.fft.fftfreq(width) * dx
    moved: NDArray[np.float64] = np.fft.ifft2(np.fft.fft2(picture) * np.exp(-2j * np.pi * phase)).real
    return moved


def pan(num_frames: int, dy: float, dx: float, size: tuple[int, int] = (64, 64), seed: int = 0) -> NDArray[np.uint8]:
    """A grey clip (T, H, W) whose content moves by (dy, dx) pixels a frame; `size` is (H, W)."""
    still = texture(*size, seed=seed)
    frames = np.stack([shift(still, dy * t, dx * t) for t in range(num_frames)])
    return np.clip(frames.round(), 0, 255).astype(np.uint8)


def zoom(num_frames: int, factor: float, size: tuple[int, int] = (64, 64), seed: int = 0) -> NDArray[np.uint8]:
    """A grey clip (T, H, W) that grows by `factor` a frame around its middle; `size` is (H, W).

    A sum of waves, so that every picture is sampled without interpolation.
    """
    rng = np.random.default_rng(seed)
    cycles, phases = rng.uniform(-0.1, 0.1, (2, 80)), rng.uniform(0, 2 * np.pi, 80)
    centred = np.indices(size) - (np.array(size).reshape(2, 1, 1) - 1) / 2
    frames = []
    for t in range(num_frames):
        y, x = (axis[..., None] / factor**t for axis in centred)
        frames.append(np.cos(2 * np.pi * (y * cycles[0] + x * cycles[1]) + phases).sum(-1))
    clip = 128 + np.stack(frames) / np.sqrt(40) * TO_TEXTURE_STD
    return np.clip(clip.round(), 0, 255).astype(np.uint8)


def encode(path: Path, frames: NDArray[np.uint8], gop_size: int = 12, options: Sequence[str] = ()) -> Path:
    """Encode grey (T, H, W) or RGB (T, H, W, 3) frames as MPEG-4 with an I-frame every `gop_size` frames.

    `options` of ffmpeg win over the defaults.
    """
    raw = ["-f", "rawvideo", "-pix_fmt", "gray" if frames.ndim == 3 else "rgb24"]
    size = ["-s", f"{frames.shape[2]}x{frames.shape[1]}", "-r", "25"]
    _ffmpeg(*raw, *size, "-i", "pipe:0", *MPEG4, "-g", str(gop_size), *options, path=path, stdin=frames.tobytes())
    return path


def encode_clip(path: Path, clip: Path, size: tuple[int, int] = (256, 256), num_frames: int = 36) -> Path:
    """Encode the beginning of a real clip with an I-frame every 12 frames; `size` is (W, H)."""
    scale = f"scale={size[0]}:{size[1]}"
    _ffmpeg("-i", f"file:{clip}", "-an", "-vf", scale, "-frames:v", str(num_frames), *MPEG4, "-g", "12", path=path)
    return path


def _ffmpeg(*arguments: str, path: Path, stdin: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments, "-bitexact", f"file:{path}"]
    subprocess.run(command, input=stdin, check=True)


@dataclass(frozen=True)
class StoredGop:
    """What one GOP of a shard is written from: arrays by the names of `StoreSettings.stored_arrays`, real frames."""

    arrays: Mapping[str, NDArray[Any]]
    real_frames: int


def trace_file(path: Path, settings: StoreSettings) -> list[StoredGop]:
    """Every GOP of an encoded file, as extract would store it."""
    tracer = GopTracer(settings)
    gops = iter_gops(path, settings, tracer)
    stored = []
    for real_frames in gops:
        arrays = {name: array.copy() for name, array in tracer.arrays.items()}
        stored.append(StoredGop({**arrays, "motion": signed_motion(arrays["motion"])}, real_frames))
    return stored


def random_gop(settings: StoreSettings, rng: np.random.Generator, real_frames: int | None = None) -> StoredGop:
    """A GOP of noise whose motion stays within the picture."""
    arrays = {}
    for array in settings.stored_arrays():
        limit = 255 // settings.residual_step
        low, high = (0, 255) if array.dtype == np.uint8 else (-limit, limit)
        arrays[array.name] = rng.integers(low, high + 1, array.shape).astype(array.dtype)
    arrays["motion"] = random_motion(settings.gop_size - 1, (settings.height_px, settings.width_px), rng)
    return StoredGop(arrays, real_frames or settings.gop_size)


def random_motion(num_frames: int, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int16]:
    """D_t whose look-ups p - D_t(p) are drawn from the whole picture, (T, 2, H, W); `size` is (H, W)."""
    look_up = np.stack([rng.integers(0, side, (num_frames, *size)) for side in size], axis=1)
    return (np.indices(size) - look_up).astype(np.int16)


def write_shard(path: Path, settings: StoreSettings, videos: Mapping[str, Sequence[StoredGop]]) -> ShardEntry:
    """One shard of these videos, in their order."""
    writer = ShardWriter(settings, path.parent)
    for row, (video_id, gops) in enumerate(videos.items()):
        for gop in gops:
            writer.add_gop(gop.arrays)
        writer.end_video(video_id, sum(gop.real_frames for gop in gops), row)
    num_gops = writer.write(path)
    return ShardEntry(path.name, path.stat().st_size, file_checksum(path), len(videos), num_gops)


def write_store(
    folder: Path,
    settings: StoreSettings,
    videos: Mapping[str, Sequence[StoredGop]],
    splits: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    videos_per_shard: int = 2,
) -> Path:
    """A complete store; a video's class is the folder in its id. Returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = sorted(videos)
    groups = [ids[start : start + videos_per_shard] for start in range(0, len(ids), videos_per_shard)]
    shards = [
        write_shard(folder / f"shard-{number:05}.h5", settings, {i: videos[i] for i in group})
        for number, group in enumerate(groups)
    ]
    write_places(folder, settings, shards)
    classes = tuple(sorted({i.rpartition("/")[0] for i in ids} - {""}))
    rows = Videos.collect(
        ids,
        labels=np.array([classes.index(c) if (c := i.rpartition("/")[0]) else NO_LABEL for i in ids], np.int32),
        num_gops=np.array([len(videos[i]) for i in ids]),
        num_frames=np.array([sum(gop.real_frames for gop in videos[i]) for i in ids]),
    )
    splits = split_rows(rows, splits or {})
    write_index(folder, StoreIndex(settings, classes, Shards.collect(shards), rows, splits, {}))
    return folder


def write_places(folder: Path, settings: StoreSettings, shards: Iterable[ShardEntry]) -> None:
    """gops.npy, from the shards themselves."""
    places = []
    for number, entry in enumerate(shards):
        gops = read_shard_file(folder / entry.name).gops
        rows = np.zeros(len(gops), gop_place_dtype(settings))
        rows["shard"] = number
        for column in rows.dtype.names[1:]:
            rows[column] = gops[column]
        places.append(rows)
    np.save(folder / GOPS, np.concatenate(places))
