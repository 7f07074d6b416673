"""What ENCODED holds after a run: the manifest, the list of failures, and the sums that are shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.atomic import sync_folder
from mfcd_prep.encode_plan import STANDS, WHYS, find_entry, journal_folder
from mfcd_prep.failures import FAILURES_NAME, Failure, write_failures
from mfcd_prep.journal import Records
from mfcd_prep.manifest import write_manifest
from mfcd_prep.output import output_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mfcd_prep.encode_plan import EncodePlan
    from mfcd_prep.encode_settings import EncodeSettings
    from mfcd_prep.manifest import VideoRecord


@dataclass(frozen=True)
class EncodeSummary:
    """What a run came to: videos by outcome, and what all of ENCODED holds now.

    num_encoded, num_unchanged: good videos made now and before. problems: how many videos by class of what is wrong
    with them, kept or failed. failures: sorted by id. damaged: (id, what is wrong) of videos that were kept.
    num_pending: videos that other parts have still to do; while there are any, there is no manifest. vanished: outputs
    whose source is gone; pruned: those that were removed. ignored: files of SOURCE that were left out, by reason.
    unmatched: entries of lists that name no video. seconds: wall clock.
    """

    num_encoded: int
    num_unchanged: int
    num_pending: int
    num_frames: int
    num_gops: int
    problems: Mapping[str, int]
    failures: tuple[Failure, ...]
    damaged: tuple[tuple[str, str], ...]
    vanished: tuple[str, ...]
    ignored: Mapping[str, int]
    unmatched: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    failures_file: str | None = None
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 all done, 1 some videos failed, 2 nothing usable."""
        if self.num_encoded + self.num_unchanged == 0 and self.failures:
            return 2
        return 1 if self.failures else 0


def write_results(plan: EncodePlan, settings: EncodeSettings) -> EncodeSummary:
    """Write failures.csv, and the manifest where no video is left to other parts; returns the sums."""
    with Records(journal_folder(plan.encoded)) as records:
        results = _Results(plan, settings, records)
        pending = plan.wanted & ~results.standing
        if pending.any():
            write_failures(plan.encoded, results.iter_failures())
        else:
            with output_faults(plan.encoded):
                for folder in results.folders():
                    sync_folder(folder)
            write_manifest(plan.encoded, settings.to_dict(), results.iter_records())
            write_failures(plan.encoded, results.iter_failures())
        return results.summary(int(pending.sum()))


@dataclass
class _Results:
    """The videos that have a result, one after another: never all at once."""

    plan: EncodePlan
    settings: EncodeSettings
    records: Records
    standing: np.ndarray[tuple[int], np.dtype[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        videos = self.plan.catalog.videos
        self.standing = np.fromiter(
            (self.plan.stands(row, find_entry(self.records, video.id)) for row, video in enumerate(videos)),
            np.bool_,
            len(videos),
        )

    def iter_records(self) -> Iterator[VideoRecord]:
        """Yield the record of each video with a result, sorted by id, as this run sees it."""
        for _, record in self._iter(self.standing):
            yield record

    def _iter(self, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[tuple[int, VideoRecord]]:
        for row in np.flatnonzero(rows):
            video = self.plan.catalog.videos[int(row)]
            if (entry := find_entry(self.records, video.id)) is not None:
                record = replace(entry.record, source=video.path, label=video.label)
                yield int(row), _judged(record, strict=self.settings.strict)

    def folders(self) -> list[Path]:
        """The folders that outputs lie in, and those that these lie in."""
        videos, encoded = self.plan.catalog.videos, self.plan.encoded
        names = {videos[int(row)].id.rpartition("/")[0] for row in np.flatnonzero(self.standing)}
        inner = {path for name in names for path in (PurePath(name), *PurePath(name).parents)}
        return [folder for path in inner if (folder := encoded / path).is_dir()]

    def iter_failures(self) -> Iterator[Failure]:
        """Yield what failed."""
        return (_failure(record) for record in self.iter_records() if record.status != "ok")

    def summary(self, num_pending: int) -> EncodeSummary:
        """Sums over the videos of this part, or over all when none is pending."""
        good, problems = Counter[str](), Counter[str]()
        failures, damaged = [], []
        for row, record in self._iter(self.standing & (self.plan.mine if num_pending else self.plan.wanted)):
            if record.problem:
                problems[record.problem] += 1
            if record.status != "ok":
                failures.append(_failure(record))
                continue
            is_new = self.plan.mine[row] and self.plan.whys[row] != WHYS.index(STANDS)
            good["new" if is_new else "old"] += 1
            good["frames"] += record.num_frames or 0
            good["gops"] += record.num_gops or 0
            if record.damage:
                damaged.append((record.id, record.damage))
        return EncodeSummary(
            num_encoded=good["new"],
            num_unchanged=good["old"],
            num_pending=num_pending,
            num_frames=good["frames"],
            num_gops=good["gops"],
            problems=dict(problems.most_common()),
            failures=tuple(failures),
            damaged=tuple(damaged),
            vanished=self.plan.vanished,
            ignored=self.plan.catalog.ignored,
            unmatched=self.plan.catalog.unmatched,
            failures_file=str(self.plan.encoded / FAILURES_NAME) if failures else None,
        )


def _failure(record: VideoRecord) -> Failure:
    return Failure(record.id, record.problem or "error", record.reason or "", record.last_complaint or "")


def _judged(record: VideoRecord, *, strict: bool) -> VideoRecord:
    """The record as this run sees it: damage is a failure where it is to be."""
    if not (strict and record.status == "ok" and record.damage):
        return record
    return replace(record, status="failed", reason=f"damaged, and --strict was asked for: {record.damage}")
