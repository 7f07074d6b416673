"""From encoded videos to a store: plan the shards, make those that are missing, index last (DESIGN 4)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfcd_core.console import progress
from mfcd_core.errors import UsageError
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.decode import require_decoder
from mfcd_prep.failures import FAILURES_NAME, Failure, write_failures
from mfcd_prep.indexing import read_labelling, write_store_index
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.journal import Journal, Records
from mfcd_prep.part import WHOLE
from mfcd_prep.placing import place_shards, remove_strays
from mfcd_prep.shards import ShardRecord, ShardWorker, VideoFailure, plan_shards
from mfcd_prep.survey import survey_encoded
from mfcd_prep.versions import end_parts, join_parts, library_versions
from mfcd_prep.workers import IN_THIS_PROCESS
from mfcd_prep.workspace import in_turn, own_folder, require_outside, require_own_or_empty, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mfcd_core.store.videos import Videos
    from mfcd_prep.indexing import Labelling
    from mfcd_prep.jobs import Lost, Outcome
    from mfcd_prep.part import Part
    from mfcd_prep.shards import ShardTask
    from mfcd_prep.survey import Survey
    from mfcd_prep.workers import Workers


@dataclass(frozen=True)
class ExtractOptions:
    """What a user may choose; frame size, GOP size and encoder come with the encoded videos. See `StoreSettings`."""

    pixel_format: str = "yuv420p"
    trace: str = "subpel"
    residual_step: int = 2
    level: int | str = 1
    tail: str = "auto"
    shard_gops: int = 256
    decoder: str = "pyav"
    compression: str = "zstd"


@dataclass(frozen=True)
class ExtractPlan:
    """What a run would do: all shards, and records of those that stand as they are, by key."""

    survey: Survey
    settings: StoreSettings
    tasks: tuple[ShardTask, ...]
    kept: Mapping[str, ShardRecord]
    part: Part
    timeout_seconds: float | None

    @property
    def todo(self) -> list[ShardTask]:
        """Shards of this part that are not there yet."""
        return [task for task in self.tasks if task.key not in self.kept and self.part.takes(task.number)]


@dataclass(frozen=True)
class ExtractSummary:
    """What a run came to.

    num_shards_pending: shards that other parts have still to make; while there are any, there is no index, and videos
    and GOPs are not counted. num_bytes: of all shards. failures: sorted by id. seconds: wall clock.
    """

    num_videos: int
    num_gops: int
    num_shards_made: int
    num_shards_kept: int
    num_shards_pending: int
    num_bytes: int
    failures: tuple[Failure, ...]
    failures_file: str | None
    seconds: float

    @property
    def exit_status(self) -> int:
        """0 all done, 1 some videos failed."""
        return 1 if self.failures else 0


def extract_videos(
    encoded: Path,
    store: Path,
    options: ExtractOptions,
    *,
    split_files: Sequence[Path] = (),
    part: Part = WHOLE,
    workers: Workers = IN_THIS_PROCESS,
    timeout_seconds: float | None = None,
) -> ExtractSummary:
    """Extract the videos of ENCODED into STORE; a video that fails costs itself, index.json comes last.

    Every shard is recorded as it comes; the same command again makes only what is missing. Of several parts, the last
    one to finish puts the shards in place and writes the index.

    Raises:
        UsageError: nothing usable in ENCODED, settings that cannot be, or a split file that cannot be read.
        OutputError, SourceError: STORE takes no more files, or ENCODED vanished; what is done is recorded.
        VersionsError: a worker, or a part before this one, has other library versions.
    """
    start = time.monotonic()
    encoded, store = encoded.absolute(), store.absolute()  # workers of a cluster began in folders of their own
    plan = plan_extract(encoded, store, options, part=part, workers=workers, timeout_seconds=timeout_seconds)
    labelling = read_labelling(split_files, plan.survey)
    require_own_or_empty(store)
    with scratch_folder(store) as scratch:
        _join_parts(plan, store)
        _make(plan, store, scratch, workers)
        records, videos = _conclude(plan, store, labelling)
    return _summarize(plan, store, records, videos, time.monotonic() - start)


def _summarize(
    plan: ExtractPlan, store: Path, records: Mapping[str, ShardRecord], videos: Videos | None, seconds: float
) -> ExtractSummary:
    """What came of it; failures.csv is written."""
    num_pending = len(plan.tasks) - len(records)
    write_failures(store, sorted([*plan.survey.failures, *_iter_failures(plan, records, everything=True)]))
    failures = sorted([*plan.survey.failures, *_iter_failures(plan, records, everything=num_pending == 0)])
    return ExtractSummary(
        num_videos=0 if videos is None else len(videos),
        num_gops=0 if videos is None else int(videos.num_gops.sum()),
        num_shards_made=sum(task.key in records and not records[task.key].retry for task in plan.todo),
        num_shards_kept=len(plan.kept),
        num_shards_pending=num_pending,
        num_bytes=sum(record.file.bytes for record in records.values() if record.file),
        failures=tuple(failures),
        failures_file=str(store / FAILURES_NAME) if failures else None,
        seconds=seconds,
    )


def plan_extract(
    encoded: Path,
    store: Path,
    options: ExtractOptions,
    *,
    part: Part = WHOLE,
    workers: Workers = IN_THIS_PROCESS,
    timeout_seconds: float | None = None,
) -> ExtractPlan:
    """Find out what is to do, from the encoded videos, the options, the journal and the shards; changes nothing.

    Raises:
        UsageError: see `extract_videos`.
    """
    require_outside(store, encoded)
    require_decoder(options.decoder, options.pixel_format)
    survey = survey_encoded(encoded, options.tail, workers)
    settings = StoreSettings(
        width_px=survey.size[0],
        height_px=survey.size[1],
        gop_size=survey.gop_size,
        pixel_format=options.pixel_format,
        trace=options.trace,
        residual_step=options.residual_step,
        compression=options.compression,
        level=options.level,
        tail=options.tail,
        encoder=survey.encoder,
        decoder=options.decoder,
    )
    tasks = tuple(plan_shards(survey, settings, options.shard_gops))
    recorded = _read_records(tasks, store)
    kept = {key: record for key, record in recorded.items() if record.still_holds(store, encoded, timeout_seconds)}
    return ExtractPlan(survey, settings, tasks, kept, part, timeout_seconds)


def _journal_folder(store: Path) -> Path:
    return own_folder(store) / "extract"


def _read_records(tasks: Sequence[ShardTask], store: Path) -> dict[str, ShardRecord]:
    """What the journal has of these shards now, by key."""
    with Records(_journal_folder(store)) as records:
        found = {task.key: records.find(task.key) for task in tasks}
    return {key: ShardRecord.from_dict(values) for key, values in found.items() if values is not None}


def _join_parts(plan: ExtractPlan, store: Path, *, is_first: bool = True) -> None:
    if plan.part != WHOLE:
        versions = library_versions(plan.settings.decoder)
        join_parts(_journal_folder(store), plan.settings, versions, is_first=is_first)


def _make(plan: ExtractPlan, store: Path, scratch: Path, workers: Workers) -> None:
    num_failed = 0
    total = sum(task.num_gops for task in plan.todo)
    with Journal(_journal_folder(store)) as journal, progress("extract", total, "GOPs") as advance:

        def on_result(task: ShardTask, outcome: Outcome[ShardRecord]) -> None:
            nonlocal num_failed
            record = outcome.value if isinstance(outcome, Done) else _lost(task, outcome)
            journal.append(record.to_dict())
            num_failed += len(record.failures)
            advance(task.num_gops, f"{num_failed} failed")

        versions = library_versions(plan.settings.decoder)
        worker = ShardWorker(plan.survey.folder, store, scratch, plan.settings, versions, plan.timeout_seconds)
        run_tasks(plan.todo, worker, workers, on_result)


def _lost(task: ShardTask, outcome: Lost) -> ShardRecord:
    """No verdict on the videos: the next run tries again."""
    reason = f"{task.name}: {outcome.reason}"
    failures = tuple(VideoFailure(video.id, outcome.problem, reason, video.path, None) for video in task.videos)
    return ShardRecord(task.name, task.key, None, "", failures, retry=outcome.reason)


def _read_results(plan: ExtractPlan, store: Path) -> dict[str, ShardRecord]:
    """The shards that have a result by now, of this run or of another part, by key."""
    mine = {task.key for task in plan.todo}
    return {
        key: record
        for key, record in _read_records(plan.tasks, store).items()
        if key in mine
        or key in plan.kept
        or record.retry
        or record.still_holds(store, plan.survey.folder, plan.timeout_seconds)
    }


def _conclude(plan: ExtractPlan, store: Path, labelling: Labelling) -> tuple[Mapping[str, ShardRecord], Videos | None]:
    """The shards that have a result, by key; and the store's videos, where none is left to other parts."""
    with in_turn(_journal_folder(store)):  # of two that end at once, each would take the other's shards for its own
        records = _read_results(plan, store)
        if len(records) < len(plan.tasks):
            _join_parts(plan, store, is_first=False)  # two that began at once may both have been the first
            return records, None
        return records, _finish(plan, store, records, labelling)


def _iter_failures(plan: ExtractPlan, records: Mapping[str, ShardRecord], *, everything: bool) -> Iterator[Failure]:
    for task in plan.tasks:
        if task.key in records and (everything or plan.part.takes(task.number)):
            for failure in records[task.key].failures:
                yield Failure(failure.id, failure.problem, failure.reason)


def _finish(plan: ExtractPlan, store: Path, records: Mapping[str, ShardRecord], labelling: Labelling) -> Videos:
    """Every shard has its result: put them in place, write the index, remove what it does not name."""
    present = [(task, records[task.key]) for task in plan.tasks if records[task.key].file]
    if not present:
        first = next(_iter_failures(plan, records, everything=True))
        raise UsageError(
            f"no video of {plan.survey.folder} could be extracted (first {first.id}: {first.reason}); "
            "run mfcd-prep encode"
        )
    end_parts(_journal_folder(store))
    with Journal(_journal_folder(store)) as journal:
        place_shards(store, present, journal)
    videos = write_store_index(store, plan.survey, plan.settings, present, labelling)
    remove_strays(store, {task.name for task, _ in present})
    return videos
