"""The package motion-vector-extractor at its edge: what may be opened, and what it reads."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfcd_core.errors import UsageError, VideoError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

CODECS = ("mpeg4", "h264")
VECTOR_NAMES = ("source", "w", "h", "src_x", "src_y", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")
VECTORS = np.dtype([(name, np.int32) for name in VECTOR_NAMES])
NUM_MAGIC_BYTES = 12


class Read(NamedTuple):
    """One picture: its type, (H, W, 3) uint8 RGB, and vectors (N,) of the fields that PyAV's have."""

    picture_type: str
    rgb: NDArray[np.uint8]
    vectors: NDArray[Any]


def require_package() -> None:
    """Raise UsageError where motion-vector-extractor is not installed."""
    if find_spec("mvextractor") is None:
        raise UsageError(
            "no package motion-vector-extractor here (Linux on x86-64 with Python below 3.14 alone): "
            "install mfcd[prep] there, or use --decoder pyav"
        )


def iter_reads(path: Path) -> Generator[Read]:
    """Read the video track of an mp4 or avi, picture by picture. Raises VideoError for any other file."""
    from mvextractor.videocap import VideoCap  # noqa: PLC0415 - 50 MB that PyAV users do not need

    url = _local_url(path)
    capture = VideoCap()
    try:
        if not capture.open(url):
            raise VideoError("mv-extractor cannot open it; use --decoder pyav")
        while True:
            is_read, bgr, vectors, picture_type = capture.read()
            if not is_read:
                return
            yield Read(picture_type, _to_rgb(bgr), np.ascontiguousarray(vectors).view(VECTORS).reshape(-1))
    finally:
        capture.release()


def _to_rgb(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rgb = np.empty_like(bgr)
    for channel in range(3):  # a quarter of the time of one copy of `bgr[..., ::-1]`
        rgb[..., channel] = bgr[..., 2 - channel]
    return rgb


def _local_url(path: Path) -> str:
    """The file as a URL that no other protocol, and with its first bytes no playlist, can claim."""
    with path.open("rb") as file:
        magic = file.read(NUM_MAGIC_BYTES)
    if magic[4:8] != b"ftyp" and (magic[:4], magic[8:12]) != (b"RIFF", b"AVI "):
        raise VideoError("neither an mp4 nor an avi by its first bytes; run mfcd-prep encode first", "other-format")
    url = f"file:{path.absolute()}"
    if "\0" in url or not _is_utf8(url):
        raise VideoError("a name that is not UTF-8, which mv-extractor cannot open; rename it or use --decoder pyav")
    return url


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
