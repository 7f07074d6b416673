"""Where a shown GOP comes from: a store, a video on a grid of GOPs, or any video, encoded on the fly."""

from __future__ import annotations

import bisect
import math
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.console import say, warn
from mfcd_core.errors import GopError, UsageError, VideoError
from mfcd_core.gop import Gop, signed_motion
from mfcd_core.motion import NO_BLOCKS
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store import Store
from mfcd_core.store.index import INDEX
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.bitstream import check_gop_grid, decode_picture_types
from mfcd_prep.decode import iter_frames
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.gops import GopTracer
from mfcd_prep.show import ShownGop, steps_of_blocks, steps_of_motion
from mfcd_prep.source import probe
from mfcd_prep.video_gops import encode_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_NEAREST = 3
MAX_COMPARED = 5000
DEFAULT_GOP_SIZE = 12
MAX_GOP_SIZE = 32


def read_shown_gop(source: Path, video_id: str | None, gop_index: int) -> ShownGop:
    """GOP `gop_index` of a store's video (its first one by default), or of a video file.

    Raises UsageError where there is no such video or GOP, VideoError where a file is no usable video.
    """
    if (source / INDEX).exists():
        return _of_store(Store(source), video_id, gop_index)
    if not source.is_file():
        raise UsageError(f"{source} is neither a store ({INDEX}) nor a file: expected one of them")
    if video_id is not None:
        raise UsageError(f"--video {video_id}: {source} is a single video; leave --video out, or name a store")
    try:
        with TemporaryDirectory(prefix="mfcd-show-") as scratch:
            return _of_file(source, gop_index, Path(scratch))
    except VideoError as error:
        raise VideoError(f"{source}: {error}") from None


def _of_store(store: Store, video_id: str | None, gop_index: int) -> ShownGop:
    row = _row_of(store, video_id)
    found, num_gops = store.videos.id(row), int(store.videos.num_gops[row])
    gop = store.read_gop(found, gop_index)
    label = int(store.videos.labels[row])
    sizes = store.places[int(store.videos.first_gop[row]) + gop_index]["sizes"].tolist()
    arrays = store.settings.stored_arrays()
    s = store.settings
    return ShownGop(
        video_id=found,
        gop_index=gop_index,
        num_gops=num_gops,
        gop=gop,
        steps=steps_of_motion(gop.motion),
        picture_types="I" + "P" * (gop.gop_size - 1),
        facts={
            "store": f"{store.path.resolve().name}, {store.shard_of(row)}",
            **({"class": store.classes[label]} if label >= 0 else {}),
            "settings": f"{s.pixel_format}, trace {s.trace}, residual step {s.residual_step}",
        },
        num_bytes={
            a.name: (size, math.prod(a.shape) * np.dtype(a.dtype).itemsize)
            for a, size in zip(arrays, sizes, strict=True)
        },
    )


def _row_of(store: Store, video_id: str | None) -> int:
    ids = store.videos.ids
    if not len(ids):
        raise UsageError(f"{store.path} has no videos: run mfcd-prep extract again")
    row = 0 if video_id is None else bisect.bisect_left(ids, video_id)
    if video_id is None or (row < len(ids) and ids[row] == video_id):
        return row
    near = [str(found) for found in ids[max(row - MAX_COMPARED, 0) : row + MAX_COMPARED]]
    nearest = get_close_matches(video_id, near, MAX_NEAREST, cutoff=0) or near[:MAX_NEAREST]
    raise UsageError(f"no video {video_id!r} among {len(ids)}; the nearest are {', '.join(map(repr, nearest))}")


def _of_file(path: Path, gop_index: int, scratch: Path) -> ShownGop:
    probe(path)  # what is no video ends here
    facts, real_frames = {"video": path.name}, None
    try:
        types = _types_on_grid(path)
    except VideoError as error:
        say(f"{path.name} is not on a grid of GOPs ({error}): encoding it on the fly, as mfcd-prep encode does")
        path, real_frames, facts["encoded"] = _encode(path, scratch)
        types = decode_picture_types(path)
    gop_size = gop_size_of(types)
    num_gops = max(len(types) // gop_size, 1)
    if not 0 <= gop_index < num_gops:
        raise UsageError(f"GOP {gop_index} of {facts['video']}: expected 0 to {num_gops - 1}")
    start = gop_index * gop_size
    gop, blocks = _trace(path, start, gop_size, min((real_frames or len(types)) - start, gop_size))
    return ShownGop(
        video_id=Path(facts["video"]).stem,
        gop_index=gop_index,
        num_gops=num_gops,
        gop=gop,
        steps=steps_of_blocks(blocks[1:], gop.motion.shape[2:]),
        picture_types=types[start : start + gop_size].ljust(gop_size, "P"),
        facts=facts,
        num_bytes={},
    )


def gop_size_of(types: str) -> int:
    """Frames from the first I-frame to the second; 12 where there is one alone."""
    second = types.find("I", 1)
    return second if second > 0 else DEFAULT_GOP_SIZE


def _types_on_grid(path: Path) -> str:
    """Picture types of a video that can be traced as it is. Raises VideoError with the reason why not."""
    info = probe(path)
    if info.pixel_format != "yuv420p" or info.width % 2 or info.height % 2:
        raise VideoError(f"{info.width}x{info.height} of {info.pixel_format}, expected even sides and yuv420p")
    types = decode_picture_types(path)
    gop_size = gop_size_of(types)
    if not 2 <= gop_size <= MAX_GOP_SIZE:
        raise GopError(f"GOPs of {gop_size} frames, expected 2 to {MAX_GOP_SIZE}")
    check_gop_grid(types, gop_size)
    return types


def _encode(path: Path, scratch: Path) -> tuple[Path, int | None, str]:
    """Encode a video with the defaults of mfcd-prep encode; returns the file, its real frames, and what was done."""
    settings = EncodeSettings()
    encoded, record = encode_file(path, scratch, settings)
    if record.damage:
        warn(f"{path.name} is damaged: {record.damage}")
    size = "x".join(map(str, settings.size))
    was = f"{record.codec} {record.width}x{record.height}"
    return encoded, record.real_frames, f"on the fly from {was} to {size}"


def _trace(path: Path, start: int, gop_size: int, real_frames: int) -> tuple[Gop, list[NDArray[np.int32]]]:
    """The GOP whose I-frame is frame `start`, residuals lossless, and the blocks of every frame."""
    frames = islice(iter_frames(path, "yuv420p", "subpel"), start, start + gop_size)
    first = next(frames)
    settings = StoreSettings(first.width_px, first.height_px, gop_size, residual_step=1)
    tracer = GopTracer(settings)
    tracer.begin(first)
    blocks, frame = [NO_BLOCKS], first
    for position, frame in enumerate(frames, start=1):
        tracer.add(position, frame, frame.blocks)
        blocks.append(frame.blocks.copy())
    for repeat in range(len(blocks), gop_size):
        tracer.add(repeat, frame, NO_BLOCKS)
        blocks.append(NO_BLOCKS)
    names = [plane.name for plane in PIXEL_FORMATS["yuv420p"]]
    iframe, residual = ({name: tracer.arrays[f"{part}/{name}"] for name in names} for part in ("iframe", "residual"))
    return Gop(iframe, residual, signed_motion(tracer.arrays["motion"]), real_frames), blocks
