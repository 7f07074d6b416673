"""What there is to extract: the encoded videos of a folder, with or without a manifest of `mfcd-prep encode`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import xxhash

from mfcd_core.catalog import OWN_FOLDER, read_catalog
from mfcd_core.errors import UsageError, VideoError
from mfcd_prep.bitstream import count_packets
from mfcd_prep.container_end import missing_end
from mfcd_prep.failures import Failure
from mfcd_prep.hashing import hash_file
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.manifest import MANIFEST_NAME, iter_manifest

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from pathlib import Path

    from mfcd_core.catalog import Video
    from mfcd_prep.jobs import Outcome
    from mfcd_prep.workers import Workers


class EncodedVideo(NamedTuple):
    """One file to extract: id, path relative to the folder, label, GOPs, real frames if known, xxh3_64 of the file."""

    id: str
    path: str
    label: str | None
    num_gops: int
    real_frames: int | None
    checksum: str


class EncodedVideos(Sequence[EncodedVideo]):
    """Many of them, in arrays: a video is made when it is asked for, a slice shares the memory."""

    DTYPES: Mapping[str, Any] = {
        "id": np.dtypes.StringDType(),
        "path": np.dtypes.StringDType(),
        "label": np.dtypes.StringDType(na_object=None),
        "num_gops": np.int64,
        "real_frames": np.int64,
        "checksum": np.uint64,
    }

    def __init__(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._columns = columns

    @classmethod
    def collect(cls, videos: Iterable[EncodedVideo]) -> EncodedVideos:
        """Take the videos of an iterator, as they come."""
        columns: dict[str, list[Any]] = {name: [] for name in cls.DTYPES}
        for video in videos:
            plain = video._replace(real_frames=-1 if video.real_frames is None else video.real_frames)
            row = {**plain._asdict(), "checksum": int(video.checksum, 16)}
            for name, values in columns.items():
                values.append(row[name])
        return cls({name: np.array(values, cls.DTYPES[name]) for name, values in columns.items()})

    def __len__(self) -> int:
        return len(self._columns["num_gops"])

    @overload
    def __getitem__(self, row: int) -> EncodedVideo: ...
    @overload
    def __getitem__(self, row: slice) -> EncodedVideos: ...
    def __getitem__(self, row: int | slice) -> EncodedVideo | EncodedVideos:
        if isinstance(row, slice):
            return EncodedVideos({name: column[row] for name, column in self._columns.items()})
        values = {name: column[row] for name, column in self._columns.items()}
        return EncodedVideo(
            id=str(values["id"]),
            path=str(values["path"]),
            label=values["label"],
            num_gops=int(values["num_gops"]),
            real_frames=None if values["real_frames"] < 0 else int(values["real_frames"]),
            checksum=f"{int(values['checksum']):016x}",
        )

    @property
    def num_gops(self) -> list[int]:
        """GOPs of each video, as planned."""
        numbers: list[int] = self._columns["num_gops"].tolist()
        return numbers


@dataclass(frozen=True)
class Survey:
    """The encoded videos, sorted by id, what they have in common, and those that cannot be used.

    size: width and height in pixels. classes: all labels, of failed videos too.
    """

    folder: Path
    size: tuple[int, int]
    gop_size: int
    encoder: Mapping[str, Any]
    videos: EncodedVideos
    classes: tuple[str, ...]
    failures: tuple[Failure, ...] = ()


def survey_encoded(folder: Path, tail: str, workers: Workers, *, only: Container[str] | None = None) -> Survey:
    """Find the videos of an encoded folder, or those of its ids that are among `only`, which may be none.

    Raises UsageError where the folder has no video, or encode was not finished.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: expected one made by mfcd-prep encode")
    made_here = (folder / MANIFEST_NAME).exists() or (folder / OWN_FOLDER).exists()
    survey = _from_manifest(folder, only) if made_here else _from_files(folder, tail, workers, only)
    if not survey.videos and only is None:
        first = f", first {survey.failures[0].id}: {survey.failures[0].reason}" if survey.failures else ""
        raise UsageError(f"{folder} has no usable video ({len(survey.failures)} failed{first}): run mfcd-prep encode")
    return survey


def _from_manifest(folder: Path, only: Container[str] | None) -> Survey:
    settings, records = iter_manifest(folder)
    labels: set[str] = set()

    def iter_good() -> Iterable[EncodedVideo]:
        for v in records:
            labels.update(() if v.label is None else (v.label,))
            if v.status == "ok" and (only is None or v.id in only):
                yield EncodedVideo(v.id, _path_of(v.id), v.label, v.num_gops or 0, v.real_frames, v.xxh3_64 or "0")

    videos = EncodedVideos.collect(iter_good())
    width, height = settings["size"]
    return Survey(folder, (width, height), settings["gop_size"], settings, videos, tuple(sorted(labels)))


def _path_of(video_id: str) -> str:
    """The file of a video of the manifest. Raises UsageError where it leads out of the folder."""
    path = PurePosixPath(f"{video_id}.mp4")
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"the manifest names {str(path)!r}: expected a path within its folder; run mfcd-prep encode")
    return f"{video_id}.mp4"


DEFAULT_GOP_SIZE = 12


def _from_files(folder: Path, tail: str, workers: Workers, only: Container[str] | None) -> Survey:
    """Files that `encode` did not make: frame size of most of them, frames counted without decoding."""
    catalog = read_catalog(folder)
    videos: list[EncodedVideo] = []
    sizes: dict[str, tuple[int, int]] = {}
    failures: list[Failure] = []

    def on_result(video: Video, outcome: Outcome[tuple[EncodedVideo, tuple[int, int]]]) -> None:
        if isinstance(outcome, Done):
            survey, sizes[video.id] = outcome.value
            videos.append(survey)
        else:
            failures.append(Failure(video.id, outcome.problem, outcome.reason))

    wanted = [video for video in catalog.videos if only is None or video.id in only]
    run_tasks(wanted, _Surveyor(folder, tail), workers, on_result)
    videos.sort()
    size = _size_of_most(sizes[video.id] for video in videos)
    labels = tuple(sorted({video.label for video in catalog.videos if video.label is not None}))
    collected = EncodedVideos.collect(videos)
    return Survey(folder, size, DEFAULT_GOP_SIZE, {}, collected, labels, tuple(sorted(failures)))


def _size_of_most(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The size that most headers have, of several the first; what is left of a damaged video may say none."""
    known = Counter(size for size in sizes if all(size))
    return known.most_common(1)[0][0] if known else (0, 0)


@dataclass(frozen=True)
class _Surveyor:
    folder: Path
    tail: str

    def __call__(self, video: Video) -> tuple[EncodedVideo, tuple[int, int]]:
        path = self.folder / video.path
        num_packets, size = count_packets(path)
        whole, rest = divmod(num_packets, DEFAULT_GOP_SIZE)
        padded = rest > 0 and (self.tail == "pad" or (self.tail == "auto" and whole == 0))
        if whole + padded == 0:
            reason = f"{rest} frames, less than a GOP of {DEFAULT_GOP_SIZE}; use --tail auto or pad"
            raise VideoError(reason, "too-short")
        if missing := missing_end(path):
            raise VideoError(f"{missing}; run mfcd-prep encode, which keeps what is there", "truncated")
        checksum = hash_file(path, xxhash.xxh3_64())
        return EncodedVideo(video.id, video.path, video.label, whole + padded, None, checksum), size
