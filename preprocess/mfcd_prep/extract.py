"""From encoded videos to a store: plan the shards, make those that are missing, index last (DESIGN 4)."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.atomic import PART_SUFFIX, replacing
from mfcd_core.console import progress, warn
from mfcd_core.errors import UsageError
from mfcd_core.splits import merge_splits, parse_split_file, random_split, resolve_splits
from mfcd_core.store.index import (
    GOPS,
    INDEX,
    NO_LABEL,
    ShardEntry,
    StoreIndex,
    Videos,
    gop_place_dtype,
    split_rows,
    write_index,
)
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.decode import require_decoder
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.journal import Journal, read_journal
from mfcd_prep.shards import ShardRecord, ShardWorker, aside_folder, library_versions, plan_shards
from mfcd_prep.survey import survey_encoded
from mfcd_prep.workspace import own_folder, require_own_or_empty, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mfcd_core.splits import Splits
    from mfcd_core.store.layout import Shard
    from mfcd_prep.jobs import Outcome
    from mfcd_prep.shards import ShardTask
    from mfcd_prep.survey import Survey

JOURNAL_NAME = "extract.jsonl"


@dataclass(frozen=True)
class ExtractOptions:
    """What a user may choose; frame size, GOP size and encoder come with the encoded videos. See `StoreSettings`."""

    pixel_format: str = "yuv420p"
    trace: str = "subpel"
    residual_step: int = 2
    level: int = 1
    tail: str = "auto"
    shard_gops: int = 256
    decoder: str = "pyav"


@dataclass(frozen=True)
class ExtractPlan:
    """What a run would do: shards to make, and records of shards that stand as they are."""

    survey: Survey
    settings: StoreSettings
    tasks: tuple[ShardTask, ...]
    kept: Mapping[str, ShardRecord]

    @property
    def todo(self) -> list[ShardTask]:
        """Shards that are not there yet."""
        return [task for task in self.tasks if task.key not in self.kept]


@dataclass(frozen=True)
class ExtractSummary:
    """What a run came to. failures: (id, reason); num_bytes: of all shards; seconds: wall clock."""

    num_videos: int
    num_gops: int
    num_shards_made: int
    num_shards_kept: int
    num_bytes: int
    failures: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def exit_status(self) -> int:
        """0 all done, 1 some videos failed."""
        return 1 if self.failures else 0


def extract_videos(
    encoded: Path, store: Path, options: ExtractOptions, *, split_files: Sequence[Path] = (), jobs: int = 1
) -> ExtractSummary:
    """Extract the videos of ENCODED into STORE; a video that fails costs itself, index.json comes last.

    Every shard is recorded as it comes; the same command again makes only what is missing.

    Raises:
        UsageError: nothing usable in ENCODED, settings that cannot be, or a split file that cannot be read.
    """
    start = time.monotonic()
    plan = plan_extract(encoded, store, options, jobs)
    published = _published_splits(split_files, plan.survey)
    require_own_or_empty(store)
    with scratch_folder(store) as scratch:
        if plan.todo:
            (store / INDEX).unlink(missing_ok=True)  # it speaks of shards that are about to change
        kept = _place_kept(plan, store)
        made, lost = _make(plan, store, scratch, jobs)
    records = [record for task in plan.tasks if (record := kept.get(task.key) or made.get(task.key))]
    failures = sorted([*lost, *plan.survey.failures, *(f[:2] for record in records for f in record.failures)])
    if not any(record.file for record in records):
        first = ": ".join(failures[0])
        raise UsageError(f"no video of {encoded} could be extracted (first {first}); run mfcd-prep encode")
    videos = _write_index(store, plan, records, published)
    _remove_strays(store, {record.name for record in records if record.file})
    return ExtractSummary(
        num_videos=len(videos),
        num_gops=int(videos.num_gops.sum()),
        num_shards_made=len(made),
        num_shards_kept=len(kept),
        num_bytes=sum(record.file.bytes for record in records if record.file),
        failures=tuple(failures),
        seconds=time.monotonic() - start,
    )


def plan_extract(encoded: Path, store: Path, options: ExtractOptions, jobs: int = 1) -> ExtractPlan:
    """Find out what is to do, from the encoded videos, the options, the journal and the shards; changes nothing."""
    require_decoder(options.decoder, options.pixel_format)
    survey = survey_encoded(encoded, options.tail, jobs)
    settings = StoreSettings(
        width_px=survey.size[0],
        height_px=survey.size[1],
        gop_size=survey.gop_size,
        pixel_format=options.pixel_format,
        trace=options.trace,
        residual_step=options.residual_step,
        level=options.level,
        tail=options.tail,
        encoder=survey.encoder,
        decoder=options.decoder,
    )
    tasks = tuple(plan_shards(survey, settings, options.shard_gops))
    recorded = {key: ShardRecord.from_dict(r) for key, r in read_journal(_journal_path(store)).items()}
    kept = {t.key: recorded[t.key] for t in tasks if t.key in recorded and recorded[t.key].still_holds(store, encoded)}
    return ExtractPlan(survey, settings, tasks, kept)


def _journal_path(store: Path) -> Path:
    return own_folder(store) / JOURNAL_NAME


def _place_kept(plan: ExtractPlan, store: Path) -> dict[str, ShardRecord]:
    """Rename the shards that stand under another number; returns the records as they are now.

    All are set aside, then recorded, then put in place: `ShardRecord.find` knows them at every step, so no kill loses
    one.
    """
    kept = {task.key: replace(plan.kept[task.key], name=task.name) for task in plan.tasks if task.key in plan.kept}
    found = {key: path for key, record in plan.kept.items() if record.file and (path := record.find(store))}
    moves = {key: path for key, path in found.items() if path != store / kept[key].name}
    if not moves:
        return kept
    (store / INDEX).unlink(missing_ok=True)
    aside = aside_folder(store)
    aside.mkdir(exist_ok=True)
    for key, path in moves.items():
        path.rename(aside / key)
    with Journal(_journal_path(store)) as journal:
        for key in moves:
            journal.append(kept[key].to_dict())
    for key in moves:
        (aside / key).rename(store / kept[key].name)
    return kept


def _make(
    plan: ExtractPlan, store: Path, scratch: Path, jobs: int
) -> tuple[dict[str, ShardRecord], list[tuple[str, str]]]:
    """Make what is to do; returns the new records by key, and (id, reason) of videos whose shard was lost."""
    made: dict[str, ShardRecord] = {}
    lost: list[tuple[str, str]] = []
    total = sum(task.num_gops for task in plan.todo)
    with Journal(_journal_path(store)) as journal, progress("extract", total, "GOPs") as advance:

        def on_result(task: ShardTask, outcome: Outcome[ShardRecord]) -> None:
            if isinstance(outcome, Done):
                made[task.key] = outcome.value
                journal.append(outcome.value.to_dict())
            else:  # no verdict on the videos: not recorded, so that the next run tries again
                lost.extend((video.id, f"{task.name}: {outcome.reason}") for video in task.videos)
            num_failed = len(lost) + sum(len(record.failures) for record in made.values())
            advance(task.num_gops, f"{num_failed} failed")

        worker = ShardWorker(plan.survey.folder, store, scratch, plan.settings)
        run_tasks(plan.todo, worker, jobs, on_result)
    return made, lost


def _write_index(store: Path, plan: ExtractPlan, records: Sequence[ShardRecord], published: Splits | None) -> Videos:
    """Write gops.npy, then videos.npz and index.json, from the tables of the shards."""
    present = [record for record in records if record.file]
    shards = [read_shard_file(store / record.name) for record in present]
    videos = _videos_of(shards, plan.survey)
    _write_places(store / GOPS, shards)
    entries = tuple(
        ShardEntry(record.name, record.file.bytes, record.checksum, len(shard.videos), len(shard.gops))
        for record, shard in zip(present, shards, strict=True)
        if record.file
    )
    splits = split_rows(videos, _drawn_splits(videos, plan.survey) if published is None else published)
    versions = library_versions(plan.settings.decoder)
    write_index(store, StoreIndex(plan.settings, plan.survey.classes, entries, videos, splits, versions))
    return videos


def _remove_strays(store: Path, names: set[str]) -> None:
    """Remove shards that the index does not name, and what a killed run left."""
    shutil.rmtree(aside_folder(store), ignore_errors=True)
    for path in (*store.glob("shard-*.h5"), *store.glob(f".*{PART_SUFFIX}")):
        if path.name not in names:
            path.unlink()


def _videos_of(shards: Sequence[Shard], survey: Survey) -> Videos:
    label_of = {video.id: video.label for video in survey.videos}
    row_of = {label: row for row, label in enumerate(survey.classes)}
    ids = [video_id for shard in shards for video_id in shard.ids]
    labels = [label_of[video_id] for video_id in ids]
    return Videos(
        ids=np.array(ids, np.dtypes.StringDType()),
        labels=np.array([NO_LABEL if label is None else row_of[label] for label in labels], np.int32),
        num_gops=np.concatenate([shard.videos["num_gops"] for shard in shards]).astype(np.int64),
        num_frames=np.concatenate([shard.videos["num_frames"] for shard in shards]).astype(np.int64),
    )


def _write_places(path: Path, shards: Sequence[Shard]) -> None:
    dtype = gop_place_dtype(len(shards[0].settings.stored_arrays()))
    with replacing(path) as part, part.open("wb") as file:
        places = np.zeros(sum(len(shard.gops) for shard in shards), dtype)
        places["shard"] = np.repeat(np.arange(len(shards)), [len(shard.gops) for shard in shards])
        for column in ("offset", "sizes"):
            places[column] = np.concatenate([shard.gops[column] for shard in shards])
        np.save(file, places, allow_pickle=False)


def _published_splits(split_files: Sequence[Path], survey: Survey) -> Splits | None:
    """The splits of these files, by video ids; None where there are none."""
    published = merge_splits(parse_split_file(path.name, _read_text(path)) for path in split_files)
    if not published:
        return None
    resolved = resolve_splits(published, [video.id for video in survey.videos])
    if resolved.unmatched:
        first = resolved.unmatched[0]
        warn(f"{len(resolved.unmatched)} entries of the splits match no video, the first is {first!r}")
    if published and not resolved.splits:
        raise UsageError(f"no entry of the splits matches a video: expected paths such as {survey.videos[0].id!r}")
    return resolved.splits


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): expected a split file, text in UTF-8") from None


def _drawn_splits(videos: Videos, survey: Survey) -> Splits:
    """A seeded draw of 80/20 a class among the labelled videos."""
    labelled = np.flatnonzero(videos.labels != NO_LABEL)
    if not len(labelled):
        warn("no labels: files directly in the folder; the store can be read, but not trained on")
        return {}
    warn("no --splits: 80/20 a class are drawn by a seeded hash, split `random`")
    return random_split(
        [str(videos.ids[row]) for row in labelled], [survey.classes[videos.labels[row]] for row in labelled]
    )
