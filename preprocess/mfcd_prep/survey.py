"""What there is to extract: the encoded videos of a folder, with or without a manifest of `mfcd-prep encode`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import xxhash

from mfcd_core.catalog import OWN_FOLDER, read_catalog
from mfcd_core.errors import MfcdError, UsageError
from mfcd_prep.bitstream import count_packets
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.manifest import MANIFEST_NAME, read_manifest
from mfcd_prep.source import probe
from mfcd_prep.transcode import hash_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mfcd_core.catalog import Video
    from mfcd_prep.jobs import Outcome


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """One file to extract: id, path relative to the folder, label, GOPs, real frames if known, xxh3_64 of the file."""

    id: str
    path: str
    label: str | None
    num_gops: int
    real_frames: int | None
    checksum: str


@dataclass(frozen=True)
class Survey:
    """The encoded videos, sorted by id, what they have in common, and (id, reason) of those that cannot be used.

    size: width and height in pixels. classes: all labels, of failed videos too.
    """

    folder: Path
    size: tuple[int, int]
    gop_size: int
    encoder: Mapping[str, Any]
    videos: tuple[EncodedVideo, ...]
    classes: tuple[str, ...]
    failures: tuple[tuple[str, str], ...] = ()


def survey_encoded(folder: Path, tail: str, jobs: int) -> Survey:
    """Find the videos of an encoded folder. Raises UsageError where there is none, or encode was not finished."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: expected one made by mfcd-prep encode")
    made_here = (folder / MANIFEST_NAME).exists() or (folder / OWN_FOLDER).exists()
    survey = _from_manifest(folder) if made_here else _from_files(folder, tail, jobs)
    if not survey.videos:
        first = f", first {survey.failures[0]}" if survey.failures else ""
        raise UsageError(f"{folder} has no usable video ({len(survey.failures)} failed{first}): run mfcd-prep encode")
    return survey


def _from_manifest(folder: Path) -> Survey:
    manifest = read_manifest(folder)
    videos = tuple(
        EncodedVideo(v.id, _path_of(v.id), v.label, v.num_gops or 0, v.real_frames, v.xxh3_64 or "")
        for v in manifest.videos
        if v.status == "ok"
    )
    width, height = manifest.settings["size"]
    labels = tuple(sorted({video.label for video in manifest.videos if video.label is not None}))
    return Survey(folder, (width, height), manifest.settings["gop_size"], manifest.settings, videos, labels)


def _path_of(video_id: str) -> str:
    """The file of a video of the manifest. Raises UsageError where it leads out of the folder."""
    path = PurePosixPath(f"{video_id}.mp4")
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"the manifest names {str(path)!r}: expected a path within its folder; run mfcd-prep encode")
    return f"{video_id}.mp4"


DEFAULT_GOP_SIZE = 12


def _from_files(folder: Path, tail: str, jobs: int) -> Survey:
    """Files that `encode` did not make: frame size of the first one that opens, frames counted without decoding."""
    catalog = read_catalog(folder)
    videos: list[EncodedVideo] = []
    failures: list[tuple[str, str]] = []

    def on_result(video: Video, outcome: Outcome[EncodedVideo]) -> None:
        if isinstance(outcome, Done):
            videos.append(outcome.value)
        else:
            failures.append((video.id, outcome.reason))

    run_tasks(catalog.videos, _Surveyor(folder, tail), jobs, on_result)
    videos.sort(key=lambda video: video.id)
    size = _size_of_first(folder, videos)
    labels = tuple(sorted({video.label for video in catalog.videos if video.label is not None}))
    return Survey(folder, size, DEFAULT_GOP_SIZE, {}, tuple(videos), labels, tuple(sorted(failures)))


def _size_of_first(folder: Path, videos: list[EncodedVideo]) -> tuple[int, int]:
    if not videos:
        return (0, 0)
    info = probe(folder / videos[0].path)
    return (info.width, info.height)


@dataclass(frozen=True)
class _Surveyor:
    folder: Path
    tail: str

    def __call__(self, video: Video) -> EncodedVideo:
        path = self.folder / video.path
        whole, rest = divmod(count_packets(path), DEFAULT_GOP_SIZE)
        padded = rest > 0 and (self.tail == "pad" or (self.tail == "auto" and whole == 0))
        if whole + padded == 0:
            raise MfcdError(f"{rest} frames, less than a GOP of {DEFAULT_GOP_SIZE}; use --tail auto or pad")
        return EncodedVideo(video.id, video.path, video.label, whole + padded, None, hash_file(path, xxhash.xxh3_64()))
