"""Encoding in tests: one video, outputs to compare, the command in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from mfcd_core.catalog import Video
from mfcd_prep import cli
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.manifest import read_manifest
from mfcd_prep.transcode import Transcoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mfcd_prep.manifest import VideoRecord

SMALL = EncodeSettings(size=(64, 48))
GRID = "IPPPPPPPPPPP"


def encode_one(folder: Path, settings: EncodeSettings = SMALL) -> tuple[VideoRecord, Path]:
    """Encode the only video of `folder`; returns its record and its file."""
    encoded = folder.with_name(f"{folder.name} encoded")
    encode_videos(folder, encoded, settings)
    (record,) = read_manifest(encoded).videos
    return record, encoded / f"{record.id}.mp4"


def transcode_one(
    source: Path, settings: EncodeSettings = SMALL, timeout_seconds: float | None = None
) -> tuple[VideoRecord, Path]:
    """Encode one file, without plan and journal; returns its record and where its file would be."""
    with TemporaryDirectory(dir=source.parent) as scratch:
        encoded = source.with_name("transcoded")
        transcoder = Transcoder(source.parent, encoded, Path(scratch), settings, timeout_seconds)
        return transcoder.transcode(Video("v", source.name, None)), encoded / "v.mp4"


def rgb_frames(path: Path) -> NDArray[np.uint8]:
    """(T, H, W, 3), as PyAV gives them."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def num_decoded(path: Path) -> int:
    """Frames of the first video stream that PyAV decodes, up to the first packet that it refuses for good."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            try:
                count += len(packet.decode())
            except av.FFmpegError:
                continue
    return count


def left_over(encoded: Path) -> list[Path]:
    """Files of ENCODED that are neither videos nor records."""
    known = {"manifest.jsonl", "failures.csv"}
    files = [path for path in encoded.rglob("*") if path.is_file() and path.parent.name != "encode"]
    return [path for path in files if path.suffix != ".mp4" and path.name not in known]


def outputs(encoded: Path) -> dict[str, bytes]:
    return {str(path.relative_to(encoded)): path.read_bytes() for path in encoded.rglob("*.mp4")} | {
        "manifest": (encoded / "manifest.jsonl").read_bytes()
    }


def run_command(*arguments: str | Path) -> int:
    """Exit status of `mfcd-prep` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mfcd-prep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code
