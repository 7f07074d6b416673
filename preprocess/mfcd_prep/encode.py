"""A folder of videos to a folder of 12-frame GOPs: plan (what is to do), run, record, manifest."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import xxhash

from mfcd_core.catalog import read_catalog
from mfcd_core.console import progress, warn
from mfcd_core.errors import UsageError
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.journal import Journal, read_journal
from mfcd_prep.manifest import MANIFEST_NAME, VideoRecord, write_manifest
from mfcd_prep.transcode import EncodeSettings, Transcoder, hash_file
from mfcd_prep.workspace import FileStat, file_stat, own_folder, require_own_or_empty, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mfcd_core.catalog import Catalog, Video
    from mfcd_prep.jobs import Outcome

__all__ = ["EncodePlan", "EncodeSettings", "EncodeSummary", "encode_videos", "plan_videos"]

JOURNAL_NAME = "encode.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One video as the journal holds it: the result, and everything that it depends on."""

    settings: str
    content: str
    input: FileStat
    output: FileStat | None
    record: VideoRecord

    def to_dict(self) -> dict[str, Any]:
        """A record of the journal."""
        key = {"id": self.record.id, "key": f"{self.settings}-{self.content}"}
        return key | {"input": self.input, "output": self.output, "record": self.record.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        settings, _, content = values["key"].partition("-")
        output = FileStat(*values["output"]) if values["output"] else None
        return cls(settings, content, FileStat(*values["input"]), output, VideoRecord.from_dict(values["record"]))


@dataclass(frozen=True, slots=True)
class Todo:
    """A video that is to be encoded, why, and what the journal has of it."""

    video: Video
    why: str
    previous: Entry | None


@dataclass(frozen=True)
class EncodePlan:
    """What a run would do: `todo`, and the records that stand as they are."""

    catalog: Catalog
    todo: tuple[Todo, ...]
    kept: tuple[VideoRecord, ...]

    @property
    def reasons(self) -> dict[str, int]:
        """How many videos are to do, by reason."""
        return dict(Counter(todo.why for todo in self.todo))


@dataclass(frozen=True)
class EncodeSummary:
    """What a run came to: videos by outcome, and what all of ENCODED holds now.

    num_encoded, num_unchanged: good videos made now and before. failures: (id, reason), sorted.
    damaged: (id, what is wrong) of videos that were kept. ignored: files of SOURCE that were left out, by reason.
    seconds: wall clock.
    """

    num_encoded: int
    num_unchanged: int
    failures: tuple[tuple[str, str], ...]
    damaged: tuple[tuple[str, str], ...]
    ignored: Mapping[str, int]
    num_frames: int
    num_gops: int
    seconds: float

    @property
    def exit_status(self) -> int:
        """0 all done, 1 some videos failed, 2 nothing usable."""
        if self.num_encoded + self.num_unchanged == 0:
            return 2
        return 1 if self.failures else 0


def encode_videos(
    source: Path,
    encoded: Path,
    settings: EncodeSettings,
    *,
    videos_list: Path | None = None,
    limit: int | None = None,
    jobs: int = 1,
    timeout_seconds: float | None = None,
) -> EncodeSummary:
    """Encode the videos of SOURCE that are not in ENCODED yet, and write ENCODED/manifest.jsonl at the end.

    A video that fails costs itself. Every result is recorded as it comes; a run that is cut off goes on from there.

    Raises:
        UsageError: SOURCE or the list cannot be read, or there is no video.
    """
    start = time.monotonic()
    plan = plan_videos(source, encoded, settings, videos_list, limit)
    require_own_or_empty(encoded)
    if plan.todo:
        (encoded / MANIFEST_NAME).unlink(missing_ok=True)  # it speaks of files that are about to change
    with scratch_folder(encoded) as scratch:
        transcoder = Transcoder(plan.catalog.root, encoded, scratch, settings, timeout_seconds)
        made = _run(plan.todo, transcoder, jobs)
    kept, made = ([_judged(record, settings) for record in records] for records in (plan.kept, made))
    write_manifest(encoded, settings.to_dict(), [*kept, *made])
    return _summary(kept, made, plan.catalog.ignored, time.monotonic() - start)


def plan_videos(
    source: Path, encoded: Path, settings: EncodeSettings, videos_list: Path | None = None, limit: int | None = None
) -> EncodePlan:
    """Find out what is to do, from the sources, the settings, the journal and the outputs; changes nothing."""
    catalog = _find_videos(source, videos_list)
    if encoded.resolve().is_relative_to(catalog.root):
        raise UsageError(f"{encoded} lies in {source}, whose videos are read: give a folder outside of it")
    if not catalog.videos:
        raise UsageError(
            f"{source} has no videos (left out: {dict(catalog.ignored) or 'nothing'}): expected class/video.mp4"
        )
    journal = read_journal(own_folder(encoded) / JOURNAL_NAME)
    digest = _digest(settings)
    todo, kept = [], []
    for video in catalog.videos[:limit]:
        entry = Entry.from_dict(journal[video.id]) if video.id in journal else None
        input_now, output_now = file_stat(catalog.root / video.path), file_stat(encoded / f"{video.id}.mp4")
        why = why_to_do(entry, digest, input_now, output_now)
        if entry is None or why is not None:
            todo.append(Todo(video, why or "", entry))
        else:
            kept.append(replace(entry.record, source=video.path, label=video.label))
    return EncodePlan(catalog, tuple(todo), tuple(kept))


def why_to_do(
    entry: Entry | None, settings: str, input_now: FileStat | None, output_now: FileStat | None
) -> str | None:
    """Why a video is to be encoded, or None where the journal's entry stands; a failure stands too."""
    if entry is None:
        return "new"
    if entry.settings != settings:
        return "settings changed"
    if entry.input != input_now:
        return "input changed"
    if entry.output != output_now and entry.record.status == "ok":
        return "output changed or missing"
    return None


@dataclass(frozen=True)
class EncodeWorker:
    """The work of one task, in whatever process; what it returns is what the journal keeps."""

    transcoder: Transcoder
    settings: str

    def __call__(self, todo: Todo) -> Entry:
        """Encode one video, unless source and output still have the bytes that the journal knows."""
        source = self.transcoder.root / todo.video.path
        target = self.transcoder.encoded / f"{todo.video.id}.mp4"
        input_now = file_stat(source)
        if input_now is None:
            raise FileNotFoundError(f"{source} is gone: was it moved?")
        content = hash_file(source, xxhash.xxh3_128())
        if todo.previous is not None and self._still_holds(todo.previous, content, target):
            return replace(todo.previous, input=input_now, output=file_stat(target))
        record = self.transcoder.transcode(todo.video)
        if record.status != "ok":
            target.unlink(missing_ok=True)  # of other settings, or of what the source was before
        return Entry(self.settings, content, input_now, file_stat(target) if record.status == "ok" else None, record)

    def _still_holds(self, previous: Entry, content: str, target: Path) -> bool:
        if (previous.settings, previous.content) != (self.settings, content):
            return False
        if previous.record.status != "ok":
            return True
        return target.is_file() and hash_file(target, xxhash.xxh3_64()) == previous.record.xxh3_64


def _run(todo: Sequence[Todo], transcoder: Transcoder, jobs: int) -> list[VideoRecord]:
    made: list[VideoRecord] = []
    num_failed = 0
    worker = EncodeWorker(transcoder, _digest(transcoder.settings))
    journal_path = own_folder(transcoder.encoded) / JOURNAL_NAME
    with Journal(journal_path) as journal, progress("encode", len(todo), "videos") as advance:

        def on_result(task: Todo, outcome: Outcome[Entry]) -> None:
            nonlocal num_failed
            if isinstance(outcome, Done):
                journal.append(outcome.value.to_dict())
                record = replace(outcome.value.record, source=task.video.path, label=task.video.label)
            else:  # no verdict on the video: not recorded, so that the next run tries again
                record = VideoRecord(task.video.id, task.video.path, task.video.label, reason=outcome.reason)
            made.append(record)
            num_failed += record.status != "ok"
            advance(1, f"{num_failed} failed")

        run_tasks(todo, worker, jobs, on_result)
    return made


def _find_videos(source: Path, videos_list: Path | None) -> Catalog:
    """The catalog of a tree, of a list of `path label` lines, or of an official split file as published."""
    catalog = read_catalog(source, [] if videos_list is None else [videos_list])
    if videos_list is not None and catalog.unmatched:
        first = catalog.unmatched[0]
        warn(f"{len(catalog.unmatched)} entries of {videos_list.name} match no video, first {first!r}")
    return catalog


def _judged(record: VideoRecord, settings: EncodeSettings) -> VideoRecord:
    """The record as this run sees it: damage is a failure where it is to be."""
    if not (settings.strict and record.status == "ok" and record.damage):
        return record
    return replace(record, status="failed", reason=f"damaged, and --strict was asked for: {record.damage}")


def _summary(
    kept: Sequence[VideoRecord], made: Sequence[VideoRecord], ignored: Mapping[str, int], seconds: float
) -> EncodeSummary:
    videos = sorted([*kept, *made], key=lambda video: video.id)
    good = [video for video in videos if video.status == "ok"]
    return EncodeSummary(
        num_encoded=sum(video.status == "ok" for video in made),
        num_unchanged=sum(video.status == "ok" for video in kept),
        failures=tuple((video.id, video.reason or "") for video in videos if video.status != "ok"),
        damaged=tuple((video.id, video.damage) for video in good if video.damage),
        ignored=ignored,
        num_frames=sum(video.num_frames or 0 for video in good),
        num_gops=sum(video.num_gops or 0 for video in good),
        seconds=seconds,
    )


def _digest(settings: EncodeSettings) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(settings.to_dict(), sort_keys=True).encode())
