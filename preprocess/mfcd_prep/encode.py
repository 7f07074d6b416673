"""A folder of videos to a folder of 12-frame GOPs: plan (what is to do), run, record, manifest."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xxhash

from mfcd_core.console import progress
from mfcd_core.errors import DeadlineError, MfcdError
from mfcd_prep.encode_plan import EncodePlan, Entry, journal_folder, plan_videos
from mfcd_prep.encode_results import EncodeSummary, write_results
from mfcd_prep.ffmpeg import require_ffmpeg
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.journal import Journal
from mfcd_prep.manifest import MANIFEST_NAME, VideoRecord
from mfcd_prep.output import output_faults
from mfcd_prep.part import WHOLE
from mfcd_prep.process import Deadline
from mfcd_prep.transcode import EncodeSettings, Transcoder, hash_file
from mfcd_prep.workers import IN_THIS_PROCESS, hard_limit
from mfcd_prep.workspace import file_stat, require_own_or_empty, require_present, scratch_folder, source_stat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mfcd_prep.encode_plan import Todo
    from mfcd_prep.jobs import Outcome
    from mfcd_prep.part import Part
    from mfcd_prep.workers import Workers

__all__ = ["EncodePlan", "EncodeSettings", "EncodeSummary", "encode_videos", "plan_videos"]


def encode_videos(  # noqa: PLR0913, one argument an option
    source: Path,
    encoded: Path,
    settings: EncodeSettings,
    lists: Sequence[Path] = (),
    *,
    limit: int | None = None,
    part: Part = WHOLE,
    workers: Workers = IN_THIS_PROCESS,
    timeout_seconds: float | None = None,
    prune: bool = False,
) -> EncodeSummary:
    """Encode the videos of SOURCE that are not in ENCODED yet, and write ENCODED/manifest.jsonl at the end.

    A video that fails costs itself. Every result is recorded as it comes; a run that is cut off goes on from there.
    Of several parts, the last one to finish writes the manifest. prune: remove outputs whose source is gone.

    Raises:
        UsageError: SOURCE or a list cannot be read, or there is no video.
        OutputError, SourceError: ENCODED takes no more files, or SOURCE vanished; what is done is recorded.
    """
    start = time.monotonic()
    encoded = encoded.absolute()  # workers of a cluster began in folders of their own
    plan = plan_videos(source, encoded, settings, lists, limit=limit, part=part, timeout_seconds=timeout_seconds)
    require_own_or_empty(encoded)
    if plan.todo.any():
        require_ffmpeg()
        with output_faults(encoded):
            (encoded / MANIFEST_NAME).unlink(missing_ok=True)  # it speaks of files that are about to change
    with scratch_folder(encoded) as scratch:
        transcoder = Transcoder(plan.catalog.root, encoded, scratch, settings, timeout_seconds)
        _run(plan, transcoder, workers)
    pruned = plan.vanished if prune else ()
    for video_id in pruned:
        (encoded / f"{video_id}.mp4").unlink(missing_ok=True)
    return replace(write_results(plan, settings), pruned=pruned, seconds=time.monotonic() - start)


@dataclass(frozen=True)
class EncodeWorker:
    """The work of one task, in whatever process; what it returns is what the journal keeps."""

    transcoder: Transcoder
    settings: str

    def __call__(self, todo: Todo) -> Entry:
        """Encode one video, unless source and output still have the bytes that the journal knows.

        Raises:
            SourceError: the whole of SOURCE is gone.
            FileNotFoundError: this source is.
            MfcdError: it was not the same from beginning to end; nothing is said about it.
        """
        source = self.transcoder.root / todo.video.path
        target = self.transcoder.encoded / f"{todo.video.id}.mp4"
        input_now = source_stat(source)
        if input_now is None:
            require_present(self.transcoder.root)
            raise FileNotFoundError(f"{todo.video.path} is gone: was it moved?")
        content = ""
        try:
            content = hash_file(source, xxhash.xxh3_128(), Deadline.after(self.transcoder.timeout_seconds))
            if todo.previous is not None and self._still_holds(todo.previous, content, target):
                return replace(todo.previous, input=input_now, output=file_stat(target))
            with hard_limit(self.transcoder.timeout_seconds):
                record = self.transcoder.transcode(todo.video)
        except DeadlineError as error:
            video = todo.video
            record = VideoRecord(video.id, video.path, video.label, reason=str(error), problem="timeout")
        if source_stat(source) != input_now:
            require_present(self.transcoder.root)
            raise MfcdError(f"{todo.video.path} changed or went away while it was read: run again")
        if record.status != "ok":
            target.unlink(missing_ok=True)  # of other settings, or of what the source was before
        output = file_stat(target) if record.status == "ok" else None
        return Entry(self.settings, content, input_now, output, record, self.transcoder.timeout_seconds)

    def _still_holds(self, previous: Entry, content: str, target: Path) -> bool:
        if previous.retry or (previous.settings, previous.content) != (self.settings, content):
            return False
        if previous.record.status != "ok":
            return previous.record.problem != "timeout"
        return target.is_file() and hash_file(target, xxhash.xxh3_64()) == previous.record.xxh3_64


def _run(plan: EncodePlan, transcoder: Transcoder, workers: Workers) -> None:
    num_failed = 0
    worker = EncodeWorker(transcoder, plan.settings)
    with (
        Journal(journal_folder(plan.encoded)) as journal,
        progress("encode", int(plan.todo.sum()), "videos") as advance,
    ):

        def on_result(task: Todo, outcome: Outcome[Entry]) -> None:
            nonlocal num_failed
            if isinstance(outcome, Done):
                entry = outcome.value
            else:  # no verdict on the video: the next run tries again
                video = task.video
                lost = VideoRecord(video.id, video.path, video.label, reason=outcome.reason, problem=outcome.problem)
                entry = Entry(plan.settings, "", None, None, lost, retry=True)
            journal.append(entry.to_dict())
            num_failed += entry.record.status != "ok"
            advance(1, f"{num_failed} failed")

        run_tasks(plan.iter_todo(), worker, workers, on_result)
