"""Proving a store against the encoded videos by plain NumPy that shares no kernel with extract (DESIGN 2)."""

from __future__ import annotations

from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, TypeAlias

import av
import numpy as np

from mfcd_core.errors import MfcdError
from mfcd_core.store.verify import Finding
from mfcd_prep.bitstream import opened, video_stream
from mfcd_prep.decode import require_decoder, vectors_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.gop import Gop
    from mfcd_core.store.reader import Store
    from mfcd_core.store.settings import StoreSettings

Picture: TypeAlias = "tuple[dict[str, NDArray[Any]], NDArray[Any] | None]"


def audit_video(store: Store, row: int, path: Path) -> Iterator[Finding]:
    """Decode the encoded video `path` again and compare every GOP that the store has of it (row `row`).

    D is traced again and must be equal; U_t = U_0(p - D_t) + R_t must hold on every pixel of every plane: exactly with
    residual step 1, within step / 2 otherwise.
    """
    video_id, settings = store.videos.id(row), store.settings
    shard = store.shard_of(row)
    try:
        pictures = _decode(path, settings)
        for gop_index in range(int(store.videos.num_gops[row])):
            gop = store.read_gop(video_id, gop_index)
            its_pictures = list(islice(pictures, settings.gop_size))
            for problem in audit_gop(gop, its_pictures, settings.trace, settings.residual_step):
                yield Finding(problem, shard, video_id, gop_index)
        left_over = sum(1 for _ in pictures)
        if left_over >= settings.gop_size:
            yield Finding(f"the video has {left_over} more frames than the store", shard, video_id)
    except (MfcdError, OSError, av.FFmpegError) as error:
        yield Finding(str(error), shard, video_id)


def _decode(path: Path, settings: StoreSettings) -> Iterator[Picture]:
    """Pictures as the store's decoder gives them, with the vectors of PyAV."""
    pictures = iter_pictures(path, settings.pixel_format)
    if settings.decoder == "pyav":
        return pictures
    frames = require_decoder(settings.decoder, settings.pixel_format).iter_frames(path, "rgb24", settings.trace)
    return (
        ({"rgb": frame.sheets[0].reshape(frame.height_px, frame.width_px, 3)}, vectors)
        for frame, (_, vectors) in zip(frames, pictures, strict=True)
    )


def iter_pictures(path: Path, pixel_format: str) -> Iterator[Picture]:
    """Planes and vectors (None of an I-frame) of every picture, as PyAV gives them."""
    with opened(path) as container:
        stream = video_stream(container)
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            vectors = vectors_of(frame)
            yield _planes(frame, pixel_format), None if vectors is None else vectors.to_ndarray()


def _planes(frame: av.VideoFrame, pixel_format: str) -> dict[str, NDArray[Any]]:
    if pixel_format == "rgb24":
        return {"rgb": frame.to_ndarray(format="rgb24")}
    stacked = frame.to_ndarray()
    luma, chroma = stacked[: frame.height], stacked[frame.height :]
    return {"luma": luma, "chroma": chroma.reshape(2, frame.height // 2, frame.width // 2)}


def audit_gop(gop: Gop, pictures: list[Picture], trace: str, step: int) -> Iterator[str]:
    """What is wrong with one GOP, given its decoded pictures; missing last pictures repeat the last one (padding)."""
    if len(pictures) < gop.real_frames:
        yield f"{len(pictures)} frames decoded, {gop.real_frames} stored"
        return
    iframe = pictures[0][0]
    if any(iframe[name].shape != plane.shape for name, plane in gop.iframe.items()):
        yield f"decoded frames are of another size than {gop.motion.shape[3]}x{gop.motion.shape[2]}"
        return
    for name, plane in gop.iframe.items():
        if not np.array_equal(plane, iframe[name]):
            yield f"I-frame {name} differs from the decoded one"
    grid = np.indices(gop.motion.shape[2:]).astype(float)
    sources = grid
    last_frame_again = repeat((pictures[-1][0], None))
    for t, (planes, vectors) in enumerate(islice(chain(pictures[1:], last_frame_again), gop.gop_size - 1)):
        sources = _trace(sources, grid, _displacement(vectors, grid.shape, trace))
        look_up = np.floor(sources + 0.5).astype(int)
        wrong = (grid - look_up != gop.motion[t]).any(0)
        if wrong.any():
            yield f"frame {t + 1}: motion differs from a plain re-trace at {wrong.sum()} pixels"
        for name, plane in planes.items():
            error = np.abs(plane - _warp(iframe[name], look_up, name) - gop.residual[name][t]).max()
            if error > step // 2:
                yield f"frame {t + 1}: {name} misses U_0(p - D) + R by {error} levels, expected at most {step // 2}"


def _displacement(vectors: NDArray[Any] | None, shape: tuple[int, ...], trace: str) -> NDArray[Any]:
    """d_t(p) in pixels, (2, H, W), order (y, x); zero where no block lies."""
    dense = np.zeros(shape)
    for vector in [] if vectors is None else vectors:
        scale, height, width = float(vector["motion_scale"]), int(vector["h"]), int(vector["w"])
        d = -np.array([vector["motion_y"], vector["motion_x"]]) / scale
        top, left = int(vector["dst_y"]) - height // 2, int(vector["dst_x"]) - width // 2
        block = dense[:, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
        block[:] = (np.trunc(d) if trace == "integer" else d).reshape(2, 1, 1)
    return dense


def _trace(sources: NDArray[Any], grid: NDArray[Any], displacement: NDArray[Any]) -> NDArray[Any]:
    """S_t(p) = clamp(S_{t-1}(q) + s - q) with s = clamp(p - d) and q = floor(s + 1/2)."""
    edge = np.array(grid.shape[1:]).reshape(2, 1, 1) - 1
    s = np.clip(grid - displacement, 0, edge)
    q = np.floor(s + 0.5).astype(int)
    traced: NDArray[Any] = np.clip(sources[:, q[0], q[1]] + s - q, 0, edge)
    return traced


def _warp(iframe: NDArray[Any], look_up: NDArray[Any], name: str) -> NDArray[Any]:
    if name == "chroma":
        rows, columns = look_up[:, ::2, ::2] >> 1
        return np.asarray(iframe[:, rows, columns], int)
    return np.asarray(iframe[look_up[0], look_up[1]], int)
