"""Shards as tasks: which videos go where, what was done before, and the work of one shard (DESIGN 4)."""

from __future__ import annotations

import json
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import xxhash

from mfcd_core.atomic import publish
from mfcd_core.errors import DeadlineError, VideoError
from mfcd_core.store.index import file_checksum
from mfcd_core.store.partition import partition
from mfcd_core.store.writer import ShardWriter
from mfcd_prep.gops import GopTracer, iter_gops
from mfcd_prep.hashing import hash_file
from mfcd_prep.output import is_about_output, output_faults
from mfcd_prep.process import Deadline
from mfcd_prep.versions import library_versions, require_versions
from mfcd_prep.workers import hard_limit
from mfcd_prep.workspace import file_stat, own_folder, parse_stat, require_present

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mfcd_core.store.settings import StoreSettings
    from mfcd_prep.survey import EncodedVideo, EncodedVideos, Survey
    from mfcd_prep.workspace import FileStat

UNREADABLE = "unreadable"  # the disk's fault, perhaps: tried again


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to make: its number, its videos, and a key of all that its bytes depend on."""

    number: int
    key: str
    videos: EncodedVideos

    @property
    def name(self) -> str:
        """The file's name in the store."""
        return f"shard-{self.number:05d}.h5"

    @property
    def num_gops(self) -> int:
        """GOPs as planned."""
        return sum(self.videos.num_gops)


class VideoFailure(NamedTuple):
    """A video that could not be extracted, why, and the file (path in ENCODED) as it was then."""

    id: str
    problem: str
    reason: str
    path: str
    file: FileStat | None


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What became of a shard.

    name: its place in the store. file: size and time of the file, None where there is none; checksum: xxh3_128.
    timeout_seconds: what each video had. retry: why the run is at fault, not the videos; else empty.
    """

    name: str
    key: str
    file: FileStat | None
    checksum: str
    failures: tuple[VideoFailure, ...]
    timeout_seconds: float | None = None
    retry: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A record of the journal, which keeps the last one of each key."""
        return {"id": self.key, **asdict(self), "file": self.file, "failures": self.failures}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        failures = tuple(
            VideoFailure(id_, problem, reason, path, parse_stat(file))
            for id_, problem, reason, path, file in values["failures"]
        )
        return cls(
            name=values["name"],
            key=values["key"],
            file=parse_stat(values["file"]),
            checksum=values["checksum"],
            failures=failures,
            timeout_seconds=values["timeout_seconds"],
            retry=values["retry"],
        )

    def still_holds(self, store: Path, encoded: Path, timeout_seconds: float | None) -> bool:
        """Whether the shard is as it was recorded, and nothing that failed could go better now."""
        if self.retry or any(self._is_worth_another_try(failure, timeout_seconds) for failure in self.failures):
            return False
        whole = self.file is None or self.find(store) is not None
        return whole and all(file_stat(encoded / failure.path) == failure.file for failure in self.failures)

    def _is_worth_another_try(self, failure: VideoFailure, timeout_seconds: float | None) -> bool:
        if failure.problem == "timeout":
            return self.timeout_seconds is not None and (timeout_seconds or float("inf")) > self.timeout_seconds
        return failure.problem == UNREADABLE

    def find(self, store: Path) -> Path | None:
        """The shard as it was recorded: under its name, or waiting under its key for its place.

        A file of another time counts where its bytes have the recorded checksum, as in a copy of the store.
        """
        place, waiting = store / self.name, waiting_path(store, self.key)
        places = (place, waiting, place)  # again: it may be on its way
        found = next((path for path in places if file_stat(path) == self.file), None)
        return found or next((path for path in places if self._has_bytes(path)), None)

    def _has_bytes(self, path: Path) -> bool:
        now = file_stat(path)
        return (
            now is not None
            and self.file is not None
            and now.bytes == self.file.bytes
            and (file_checksum(path) == self.checksum)
        )


def waiting_path(store: Path, key: str) -> Path:
    """Where a shard waits until all are there and get their numbers."""
    return own_folder(store) / "shards" / f"{key}.h5"


def plan_shards(survey: Survey, settings: StoreSettings, shard_gops: int) -> list[ShardTask]:
    """Cut the sorted videos into shards; pure."""
    videos = survey.videos
    ranges = partition([video.id for video in videos], videos.num_gops, shard_gops)
    common = json.dumps([settings.to_dict(), library_versions(settings.decoder)], sort_keys=True)
    return [
        ShardTask(number, _key(common, members), members)
        for number, members in enumerate(videos[rows.start : rows.stop] for rows in ranges)
    ]


def _key(common: str, videos: EncodedVideos) -> str:
    content = json.dumps([common, [(video.id, video.checksum) for video in videos]])
    return xxhash.xxh3_128_hexdigest(content.encode())


@dataclass(frozen=True)
class ShardWorker:
    """The work of one task, in whatever process: decode, trace, compress, write, rename.

    versions: those of the run; a process that has others refuses.
    """

    encoded: Path
    store: Path
    scratch: Path
    settings: StoreSettings
    versions: Mapping[str, str]
    timeout_seconds: float | None = None

    def __call__(self, task: ShardTask) -> ShardRecord:
        """Make one shard under its key; a video that fails leaves a gap. Raises VersionsError."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            unfinished, target = Path(folder, task.name), waiting_path(self.store, task.key)
            record = self.make(task, unfinished)
            if record.file is not None:
                with output_faults(self.store):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    publish(unfinished, target)
        return record

    def make(self, task: ShardTask, path: Path) -> ShardRecord:
        """Make one shard at `path`, in a folder for unfinished files; where no video is left there is no file."""
        require_versions(self.versions, self.settings.decoder)
        with closing(ShardWriter(self.settings, path.parent)) as writer:
            tracer = GopTracer(self.settings, writer.packer)
            tried = (self._try_video(video, writer, tracer) for video in task.videos)
            failures = tuple(failure for failure in tried if failure is not None)
            with output_faults(self.store):
                num_gops = writer.write(path)
                checksum = file_checksum(path) if num_gops else ""
        return ShardRecord(task.name, task.key, file_stat(path), checksum, failures, self.timeout_seconds)

    def _try_video(self, video: EncodedVideo, writer: ShardWriter, tracer: GopTracer) -> VideoFailure | None:
        try:
            with hard_limit(self.timeout_seconds):
                self._add_video(video, writer, tracer)
        except (VideoError, DeadlineError, OSError) as error:
            if isinstance(error, OSError) and is_about_output(error):
                raise
            require_present(self.encoded)
            writer.drop_video()
            file = file_stat(self.encoded / video.path)
            return VideoFailure(video.id, _problem(error), " ".join(str(error).split()), video.path, file)
        return None

    def _add_video(self, video: EncodedVideo, writer: ShardWriter, tracer: GopTracer) -> None:
        path, num_frames = self.encoded / video.path, 0
        if hash_file(path, xxhash.xxh3_64()) != video.checksum:
            raise VideoError("other bytes than the manifest recorded; run mfcd-prep encode again", "damaged")
        deadline = Deadline.after(self.timeout_seconds)
        for real_frames in iter_gops(path, self.settings, tracer):
            deadline.check()
            writer.end_gop()
            num_frames += real_frames
        if num_frames == 0:
            raise VideoError("no whole GOP; use --tail auto or pad", "too-short")
        if video.real_frames is not None:
            num_frames = min(num_frames, video.real_frames)
        writer.end_video(video.id, num_frames, int(video.checksum, 16))


def _problem(error: Exception) -> str:
    if isinstance(error, DeadlineError):
        return "timeout"
    if isinstance(error, FileNotFoundError):
        return "gone"
    return UNREADABLE if isinstance(error, OSError) else getattr(error, "problem", "error")
