"""Small videos that tests make themselves, and what the ffmpeg program says of a file: a witness beside PyAV."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import imageio_ffmpeg
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LOSSLESS_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv420p", "-threads", "1")


def run_tool(*arguments: str, frames: bytes = b"") -> str:
    """Run ffmpeg as a user would; returns its log."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-hide_banner", *arguments]
    done = subprocess.run(command, input=frames, capture_output=True, check=False)
    log = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0, log
    return log


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    *,
    fps: str = "25",
    codec: Sequence[str] = LOSSLESS_H264,
    filters: str = "null",
) -> Path:
    """Write (T, H, W, 3) uint8 RGB frames; the container is that of the path's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, height, width, _ = frames.shape
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "pipe:")
    run_tool("-v", "error", *raw, "-vf", filters, *codec, f"file:{path}", frames=frames.tobytes())
    return path


def grey_frames(num_frames: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """Frame k is flat grey of level 16 + 4 k: each frame can be told from its neighbours."""
    levels = 16 + 4 * np.arange(num_frames)
    assert levels[-1] <= 255
    return np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (num_frames, height, width, 3)).copy()


def cut_frames(num_frames: int, every: int = 5, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """Another random picture every few frames: hard scene cuts."""
    rng = np.random.default_rng(7)
    scenes = rng.integers(0, 256, (-(-num_frames // every), height // 8, width // 8, 3), dtype=np.uint8)
    return np.repeat(scenes.repeat(8, axis=1).repeat(8, axis=2), every, axis=0)[:num_frames]


def types_by_tool(path: Path) -> str:
    """Picture types as the ffmpeg program decodes them, one letter a frame."""
    return "".join(
        re.findall(r"iskey:\d type:(\w)", run_tool("-i", f"file:{path}", "-vf", "showinfo", "-f", "null", "-"))
    )
