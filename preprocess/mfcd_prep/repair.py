"""Damaged shards made again from the encoded videos; in place only with the very bytes that the index recorded.

Needs no journal: the index says what a shard holds, and a video that failed then is not in it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mfcd_core.atomic import publish
from mfcd_core.console import progress
from mfcd_core.errors import StoreError, UsageError
from mfcd_core.store.index import GOPS, file_checksum, read_index
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.verify import Finding, check_file
from mfcd_prep.decode import require_decoder
from mfcd_prep.indexing import write_places
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.output import output_faults
from mfcd_prep.shards import ShardTask, ShardWorker
from mfcd_prep.survey import EncodedVideos, survey_encoded
from mfcd_prep.verify import check_all, require_store
from mfcd_prep.versions import compare_versions, library_versions
from mfcd_prep.workspace import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mfcd_core.store.index import ShardEntry, StoreIndex
    from mfcd_prep.jobs import Outcome
    from mfcd_prep.shards import ShardRecord
    from mfcd_prep.survey import EncodedVideo, Survey
    from mfcd_prep.workers import Workers


@dataclass(frozen=True)
class Damage:
    """What is to be mended: rows of `index.shards`, whether gops.npy too, and what was found."""

    index: StoreIndex
    shards: tuple[int, ...]
    places: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class RepairSummary:
    """What a run came to. mended: names of files. left: files that are as they were, and why."""

    num_shards: int
    mended: tuple[str, ...] = ()
    left: tuple[Finding, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 all mended, 1 some could not be."""
        return 1 if self.left else 0


def find_damage(store: Path, workers: Workers) -> Damage:
    """Compare the bytes of every shard with the index. Raises UsageError or StoreError without a usable index."""
    require_store(store)
    index = read_index(store, needs_places=False)
    findings, whole = check_all("verify", range(len(index.shards)), _FileCheck(store, index.shards), workers)
    places = store / GOPS
    wrong = not places.is_file() or file_checksum(places) != index.file_checksums[GOPS]
    if wrong:
        findings.append(Finding("is missing, or has other bytes than index.json recorded", GOPS))
    shards = tuple(sorted(set(range(len(index.shards))) - set(whole)))
    return Damage(index, shards, wrong, tuple(findings))


def repair_store(store: Path, encoded: Path, workers: Workers) -> RepairSummary:
    """Make the shards that are damaged again and replace those whose bytes come out as recorded; then gops.npy.

    Raises:
        UsageError, StoreError: no usable index, or nothing of the damaged shards is in ENCODED.
        OutputError, SourceError, VersionsError: no shard can be made; what is mended stays.
    """
    damage = find_damage(store, workers)
    summary = RepairSummary(len(damage.index.shards))
    if not damage.findings:
        return summary
    with scratch_folder(store) as scratch:
        if damage.shards:
            summary = _Repair(store, encoded, scratch, damage.index, workers).mend(damage.shards)
        if damage.places:
            summary = _with_places(summary, _mend_places(store, scratch, damage.index, whole=not summary.left))
    return summary


@dataclass(frozen=True)
class _FileCheck:
    store: Path
    shards: Sequence[ShardEntry]

    def __call__(self, number: int) -> list[Finding]:
        finding = check_file(self.store, self.shards[number])
        return [] if finding is None else [finding]


@dataclass(frozen=True)
class _Repair:
    """One run: what its steps share."""

    store: Path
    encoded: Path
    scratch: Path
    index: StoreIndex
    workers: Workers

    def mend(self, numbers: tuple[int, ...]) -> RepairSummary:
        """Make these shards again, and put in place what comes out as recorded."""
        settings = self.index.settings
        require_decoder(settings.decoder, settings.pixel_format)
        wanted = {video_id for number in numbers for video_id in self._ids(number)}
        survey = survey_encoded(self.encoded, settings.tail, self.workers, only=wanted)
        if not survey.videos:
            raise UsageError(f"{self.encoded} has none of the {len(wanted)} videos of the damaged shards: name theirs")
        video_of = {video.id: video for video in survey.videos}
        left = [self._finding(n, why) for n in numbers if (why := self._why_impossible(n, video_of, survey))]
        hopeless = {finding.shard for finding in left}
        tasks = [self._task(n, video_of) for n in numbers if self.index.shards.name(n) not in hopeless]
        mended: list[str] = []
        with progress("repair", sum(task.num_gops for task in tasks), "GOPs") as advance:

            def on_result(task: ShardTask, outcome: Outcome[ShardRecord]) -> None:
                if why := self._why_left(task, outcome, survey):
                    left.append(self._finding(task.number, why))
                else:
                    mended.append(self.index.shards.name(task.number))
                advance(task.num_gops, f"{len(left)} not mended")

            worker = ShardWorker(self.encoded, self.store, self.scratch, settings, library_versions(settings.decoder))
            run_tasks(tasks, _Mender(worker, self.index.shards), self.workers, on_result)
        return RepairSummary(len(self.index.shards), tuple(sorted(mended)), tuple(sorted(left, key=str)))

    def _ids(self, number: int) -> list[str]:
        return [str(i) for i in self.index.videos.ids[self.index.shards.rows(number)]]

    def _task(self, number: int, video_of: dict[str, EncodedVideo]) -> ShardTask:
        return ShardTask(number, "", EncodedVideos.collect(video_of[video_id] for video_id in self._ids(number)))

    def _finding(self, number: int, why: str) -> Finding:
        return Finding(why, self.index.shards.name(number))

    def _why_impossible(self, number: int, video_of: dict[str, EncodedVideo], survey: Survey) -> str:
        gone = [video_id for video_id in self._ids(number) if video_id not in video_of]
        if not gone:
            return ""
        reason = next((f": {f.reason}" for f in survey.failures if f.id == gone[0]), "")
        return f"{gone[0]} is not among the videos of {self.encoded}{reason}{_and_more(gone)}"

    def _why_left(self, task: ShardTask, outcome: Outcome[ShardRecord], survey: Survey) -> str:
        """Why a shard stands as it was; empty when it is mended."""
        if not isinstance(outcome, Done):
            return outcome.reason
        if failures := outcome.value.failures:
            return f"{failures[0].id}: {failures[0].reason}{_and_more(failures)}"
        if outcome.value.checksum == self.index.shards[task.number].checksum:
            return ""
        differences = [*self._differing(survey), *self._changed_videos(task)]
        return "its bytes would be others than recorded: " + ("; ".join(differences) or NOTHING_DIFFERS)

    def _differing(self, survey: Survey) -> Iterator[str]:
        """Versions and settings of the store that are not those of now."""
        here, there = compare_versions(library_versions(self.index.settings.decoder), self.index.versions)
        if here:
            yield f"it was made with {there}, here is {here}"
        before, now = dict(self.index.settings.encoder), dict(survey.encoder)
        for name in sorted(name for name in {*before, *now} if before.get(name) != now.get(name)):
            yield f"encoded with {name} {now.get(name)!r}, then {before.get(name)!r}"

    def _changed_videos(self, task: ShardTask) -> Iterator[str]:
        """Videos whose files are not those that the shard's own table names, where it can still be read."""
        try:
            shard = read_shard_file(self.store / self.index.shards.name(task.number))
        except StoreError:
            return
        then = dict(zip(shard.ids, shard.videos["checksum"].tolist(), strict=True))
        changed = [video.id for video in task.videos if then.get(video.id, 0) != int(video.checksum, 16)]
        if changed:
            yield f"the encoded file of {changed[0]} is another{_and_more(changed)}"


NOTHING_DIFFERS = "versions and settings are the same; the encoded videos may not be"


def _and_more(items: list[str] | tuple[object, ...]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""


@dataclass(frozen=True)
class _Mender:
    """The work of one shard: in its place when it comes out as recorded, else gone."""

    worker: ShardWorker
    shards: Sequence[ShardEntry]

    def __call__(self, task: ShardTask) -> ShardRecord:
        entry = self.shards[task.number]
        with tempfile.TemporaryDirectory(dir=self.worker.scratch) as folder:
            path = Path(folder, entry.name)
            record = self.worker.make(task, path)
            if not record.failures and record.checksum == entry.checksum:
                with output_faults(self.worker.store):
                    publish(path, self.worker.store / entry.name)
        return record


def _mend_places(store: Path, scratch: Path, index: StoreIndex, *, whole: bool) -> str:
    """Write gops.npy again from the tables of the shards; returns why not, empty when it is mended."""
    if not whole:
        return "follows from the shards, of which some are not mended"
    made = scratch / GOPS
    with output_faults(store):
        write_places(made, [read_shard_file(store / entry.name) for entry in index.shards])
        if file_checksum(made) != index.file_checksums[GOPS]:
            return "its bytes would be others than recorded: run mfcd-prep extract again"
        publish(made, store / GOPS)
    return ""


def _with_places(summary: RepairSummary, why_left: str) -> RepairSummary:
    if why_left:
        return RepairSummary(summary.num_shards, summary.mended, (*summary.left, Finding(why_left, GOPS)))
    return RepairSummary(summary.num_shards, (*summary.mended, GOPS), summary.left)
