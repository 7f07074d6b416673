"""A folder of videos to a folder of 12-frame GOPs: plan (what is to do), run, record, manifest."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mfcd_core.console import progress
from mfcd_prep.encode_entry import Entry
from mfcd_prep.encode_groups import Groups
from mfcd_prep.encode_plan import EncodePlan, journal_folder, plan_videos
from mfcd_prep.encode_results import EncodeSummary, write_results
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.encode_worker import EncodeWorker
from mfcd_prep.ffmpeg import require_ffmpeg
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.journal import Journal
from mfcd_prep.manifest import MANIFEST_NAME, VideoRecord
from mfcd_prep.output import output_faults
from mfcd_prep.part import WHOLE
from mfcd_prep.workers import IN_THIS_PROCESS
from mfcd_prep.workspace import require_own_or_empty, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mfcd_prep.encode_groups import Group
    from mfcd_prep.jobs import Lost, Outcome
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
    ffmpeg = require_ffmpeg() if plan.todo.any() else None
    if ffmpeg:
        with output_faults(encoded):
            (encoded / MANIFEST_NAME).unlink(missing_ok=True)  # it speaks of files that are about to change
    with scratch_folder(encoded) as scratch:
        root, digest, theirs = plan.catalog.root, plan.settings, ffmpeg if workers.is_here else None
        _run(plan, EncodeWorker(root, encoded, scratch, settings, digest, timeout_seconds, theirs), workers)
    pruned = plan.vanished if prune else ()
    for video_id in pruned:
        (encoded / f"{video_id}.mp4").unlink(missing_ok=True)
    return replace(write_results(plan, settings), pruned=pruned, seconds=time.monotonic() - start)


def _run(plan: EncodePlan, worker: EncodeWorker, workers: Workers) -> None:
    num_failed = 0
    num_todo = int(plan.todo.sum())
    groups = Groups(plan.iter_todo(), num_todo, workers)
    with Journal(journal_folder(plan.encoded)) as journal, progress("encode", num_todo, "videos") as advance:

        def on_result(group: Group, outcome: Outcome[tuple[Entry, ...]]) -> None:
            nonlocal num_failed
            for entry in outcome.value if isinstance(outcome, Done) else (_lost_entry(plan, group, outcome),):
                journal.append(entry.to_dict())
                num_failed += entry.record.status != "ok"
                advance(1, f"{num_failed} failed")

        run_tasks(groups, worker, workers, on_result, groups.split)


def _lost_entry(plan: EncodePlan, group: Group, lost: Lost) -> Entry:
    """No verdict on the one video of a group: the next run tries again."""
    (todo,) = group
    video = todo.video
    record = VideoRecord(video.id, video.path, video.label, reason=lost.reason, problem=lost.problem)
    return Entry(plan.settings, "", None, None, record, retry=True)
