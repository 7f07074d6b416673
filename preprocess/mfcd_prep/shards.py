"""Shards as tasks: which videos go where, what was done before, and the work of one shard (DESIGN 4)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import h5py
import xxhash

from mfcd_core.atomic import publish
from mfcd_core.errors import VideoError
from mfcd_core.store.index import file_checksum
from mfcd_core.store.partition import partition
from mfcd_core.store.writer import ShardWriter
from mfcd_prep.decode import DECODERS
from mfcd_prep.gops import GopTracer, iter_gops
from mfcd_prep.transcode import hash_file
from mfcd_prep.workspace import FileStat, file_stat, own_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mfcd_core.store.settings import StoreSettings
    from mfcd_prep.survey import EncodedVideo, Survey

PACKAGES = ("mfcd", "h5py", "numpy", "zstandard")


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to make: its file name, its videos, and a key of all that its bytes depend on."""

    name: str
    key: str
    videos: tuple[EncodedVideo, ...]

    @property
    def num_gops(self) -> int:
        """GOPs as planned."""
        return sum(video.num_gops for video in self.videos)


class VideoFailure(NamedTuple):
    """A video that could not be extracted, why, and the file (path in ENCODED) as it was then."""

    id: str
    reason: str
    path: str
    file: FileStat | None


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What became of a shard. file: size and time of the file, None where every video failed; checksum: xxh3_128."""

    name: str
    key: str
    file: FileStat | None
    checksum: str
    failures: tuple[VideoFailure, ...]

    def to_dict(self) -> dict[str, Any]:
        """A record of the journal, which keeps the last one of each key."""
        return {"id": self.key, **asdict(self), "file": self.file, "failures": self.failures}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        failures = tuple(VideoFailure(id_, why, path, _parse_stat(file)) for id_, why, path, file in values["failures"])
        return cls(values["name"], values["key"], _parse_stat(values["file"]), values["checksum"], failures)

    def still_holds(self, store: Path, encoded: Path) -> bool:
        """Whether the shard is as it was recorded, and the files of failed videos too."""
        whole = self.file is None or self.find(store) is not None
        return whole and all(file_stat(encoded / failure.path) == failure.file for failure in self.failures)

    def find(self, store: Path) -> Path | None:
        """The shard as it was recorded: under its name, or set aside while shards change their numbers."""
        places = (store / self.name, aside_folder(store) / self.key)
        return next((path for path in places if file_stat(path) == self.file), None)


def aside_folder(store: Path) -> Path:
    """Where shards wait, under their keys, for their new numbers."""
    return own_folder(store) / "aside"


def _parse_stat(values: list[int] | None) -> FileStat | None:
    return None if values is None else FileStat(*values)


def library_versions(decoder: str) -> dict[str, str]:
    """Versions that the bytes of a shard depend on."""
    packages = (*PACKAGES, DECODERS[decoder].package)
    return {**{name: version(name) for name in packages}, "hdf5": h5py.version.hdf5_version}


def plan_shards(survey: Survey, settings: StoreSettings, shard_gops: int) -> list[ShardTask]:
    """Cut the sorted videos into shards; pure."""
    videos = survey.videos
    ranges = partition([video.id for video in videos], [video.num_gops for video in videos], shard_gops)
    common = json.dumps([settings.to_dict(), library_versions(settings.decoder)], sort_keys=True)
    return [
        ShardTask(f"shard-{number:05d}.h5", _key(common, members), members)
        for number, members in enumerate(tuple(videos[row] for row in rows) for rows in ranges)
    ]


def _key(common: str, videos: tuple[EncodedVideo, ...]) -> str:
    content = json.dumps([common, [(video.id, video.checksum) for video in videos]])
    return xxhash.xxh3_128_hexdigest(content.encode())


@dataclass(frozen=True)
class ShardWorker:
    """The work of one task, in whatever process: decode, trace, compress, write, rename."""

    encoded: Path
    store: Path
    scratch: Path
    settings: StoreSettings

    def __call__(self, task: ShardTask) -> ShardRecord:
        """Make one shard; a video that fails leaves a gap."""
        writer, tracer = ShardWriter(self.settings, self.scratch), GopTracer(self.settings)
        failures = []
        for video in task.videos:
            try:
                self._add_video(video, writer, tracer)
            except (VideoError, FileNotFoundError) as error:
                writer.drop_video()
                failures.append(VideoFailure(video.id, str(error), video.path, file_stat(self.encoded / video.path)))
        unfinished, target = self.scratch / task.name, self.store / task.name
        if writer.write(unfinished) == 0:
            target.unlink(missing_ok=True)
            return ShardRecord(task.name, task.key, None, "", tuple(failures))
        checksum = file_checksum(unfinished)
        publish(unfinished, target)
        return ShardRecord(task.name, task.key, file_stat(target), checksum, tuple(failures))

    def _add_video(self, video: EncodedVideo, writer: ShardWriter, tracer: GopTracer) -> None:
        path, num_frames = self.encoded / video.path, 0
        if hash_file(path, xxhash.xxh3_64()) != video.checksum:
            raise VideoError("other bytes than the manifest recorded; run mfcd-prep encode again")
        for real_frames in iter_gops(path, self.settings, tracer):
            writer.add_gop(tracer.arrays)
            num_frames += real_frames
        if num_frames == 0:
            raise VideoError("no whole GOP; use --tail auto or pad")
        if video.real_frames is not None:
            num_frames = min(num_frames, video.real_frames)
        writer.end_video(video.id, num_frames, int(video.checksum, 16))
