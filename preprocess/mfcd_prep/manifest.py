"""What ENCODED holds: one record a video, in a file that is written last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from mfcd_core.atomic import replacing
from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

MANIFEST_NAME = "manifest.jsonl"
FORMAT = "mfcd-encoded"
VERSION = 1


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video of ENCODED: its file is `<id>.mp4`; what is not known is None.

    status: "ok" or "failed", with a `reason`. problem: a key of `damage.PROBLEMS`, of a failed video and of a damaged
    one that was kept. source: path relative to SOURCE. codec to num_frames_from_header: the source as its header says;
    width, height in pixels before rotation, rotation in degrees, sar and fps as fractions; interlaced: header or first
    frame say so, and frames that do are deinterlaced; matrix as tagged, matrix_read_as as used. num_frames_decoded:
    frames of the source that decoded. num_frames: frames written, num_gops whole GOPs; the first real_frames are the
    video's, the rest repeat the last. damage: why the source is not whole, kept all the same. complaints: of demuxer
    and decoder.
    """

    id: str
    source: str
    label: str | None
    status: str = "failed"
    reason: str | None = None
    problem: str | None = None
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    rotation: float | None = None
    interlaced: bool | None = None
    sar: str | None = None
    fps: str | None = None
    matrix: str | None = None
    matrix_read_as: str | None = None
    range: str | None = None
    pixel_format: str | None = None
    num_frames_from_header: int | None = None
    num_frames_decoded: int | None = None
    num_frames: int | None = None
    real_frames: int | None = None
    num_gops: int | None = None
    bytes: int | None = None
    xxh3_64: str | None = None
    damage: str | None = None
    problem: str | None = None
    num_complaints: int | None = None
    last_complaint: str | None = None
    encoder: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown keys, of a later version, are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True)
class Manifest:
    """The settings that ENCODED was made with, and its videos sorted by id."""

    settings: Mapping[str, Any]
    videos: tuple[VideoRecord, ...]


def write_manifest(encoded: Path, settings: Mapping[str, Any], videos: Iterable[VideoRecord]) -> None:
    """Write ENCODED/manifest.jsonl: a header line, then one line a video, as they come, sorted by id."""
    header = {"format": FORMAT, "version": VERSION, "settings": dict(settings)}
    with replacing(encoded / MANIFEST_NAME) as part, part.open("w", encoding="ascii") as file:
        file.write(json.dumps(header) + "\n")
        for video in videos:
            file.write(json.dumps(video.to_dict()) + "\n")


def read_manifest(encoded: Path) -> Manifest:
    """Read the whole of ENCODED/manifest.jsonl. Raises as `iter_manifest` does."""
    settings, videos = iter_manifest(encoded)
    return Manifest(settings, tuple(videos))


def iter_manifest(encoded: Path) -> tuple[Mapping[str, Any], Iterator[VideoRecord]]:
    """The settings of ENCODED/manifest.jsonl, and its videos one after another.

    Raises:
        UsageError: it is missing, of another format or of a later version; while iterating: a line is damaged.
    """
    path = encoded / MANIFEST_NAME
    if not path.is_file():
        raise UsageError(f"{encoded} has no {MANIFEST_NAME}: run mfcd-prep encode to its end first")
    lines = _iter_parsed(path)
    header = next(lines, None)
    if header is None:
        raise UsageError(f"{path} is empty: run mfcd-prep encode again")
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        got = f"{header.get('format')} version {header.get('version')}"
        raise UsageError(f"{path} is {got}, expected {FORMAT} version {VERSION}: encode again or update mfcd")
    return header["settings"], map(VideoRecord.from_dict, lines)


def _iter_parsed(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}): run mfcd-prep encode again") from None
