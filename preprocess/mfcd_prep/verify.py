"""Checking a whole store over several processes, and with the encoded videos beside it, deeply."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mfcd_core.console import progress
from mfcd_core.errors import MfcdError, StoreError, UsageError
from mfcd_core.store import Store
from mfcd_core.store.index import GOPS, INDEX, read_index
from mfcd_core.store.verify import Finding, verify_index, verify_shard
from mfcd_prep.audit import audit_video
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.subset import EVERYTHING
from mfcd_prep.survey import survey_encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mfcd_core.store.index import StoreIndex
    from mfcd_prep.jobs import Outcome
    from mfcd_prep.subset import Subset
    from mfcd_prep.workers import Workers

Item = TypeVar("Item")


@dataclass(frozen=True)
class VerifySummary:
    """What was checked and found.

    num_shards, num_videos, num_gops: of the store. num_shards_checked, num_videos_decoded: of these, as many as were
    drawn. num_gops_audited: GOPs of videos that were decoded and traced again, and proven. num_shards_damaged: shards
    with findings of their own.
    """

    num_shards: int = 0
    num_videos: int = 0
    num_gops: int = 0
    num_shards_checked: int = 0
    num_shards_damaged: int = 0
    num_videos_decoded: int = 0
    num_gops_audited: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 nothing found, 1 something wrong."""
        return 1 if self.findings else 0


def verify_store(store: Path, encoded: Path | None, workers: Workers, subset: Subset = EVERYTHING) -> VerifySummary:
    """Check structure, counts, checksums and places of a store; with `encoded`, re-decode and prove every GOP.

    subset: as many of the shards, and of the videos that are decoded; the index is checked as a whole.
    """
    require_store(store)
    findings = list(verify_index(store))
    try:
        index = read_index(store)
    except MfcdError:
        return VerifySummary(findings=tuple(findings))
    drawn = subset.draw(len(index.shards))
    found, clean = check_all("verify", drawn, _ShardCheck(store), workers)
    summary = VerifySummary(
        num_shards=len(index.shards),
        num_videos=len(index.videos),
        num_gops=int(index.videos.num_gops.sum()),
        num_shards_checked=len(drawn),
        num_shards_damaged=len(drawn) - len(clean),
        findings=(*findings, *found),
    )
    return summary if encoded is None else _verify_deeply(summary, store, encoded, workers, subset)


def _verify_deeply(
    summary: VerifySummary, path: Path, encoded: Path, workers: Workers, subset: Subset
) -> VerifySummary:
    try:
        store = Store(path)
    except StoreError as error:
        return replace(summary, findings=(*summary.findings, Finding(f"no GOP can be proven: {error}", GOPS)))
    rows = subset.draw(len(store.videos))
    found, proven = _audit(store, rows, encoded, workers)
    return replace(
        summary,
        num_videos_decoded=len(rows),
        num_gops_audited=int(store.videos.num_gops[proven].sum()),
        findings=(*summary.findings, *found),
    )


def require_store(store: Path) -> None:
    """Raise UsageError where there is nothing of a store."""
    if not (store / INDEX).exists() and not any(store.glob("*.h5")):
        raise UsageError(f"{store} has neither {INDEX} nor shards: expected a store made by mfcd-prep extract")


def _audit(store: Store, rows: list[int], encoded: Path, workers: Workers) -> tuple[list[Finding], list[int]]:
    ids = [store.videos.id(row) for row in rows]
    survey = survey_encoded(encoded, store.settings.tail, workers, only=set(ids))
    paths = {video.id: video.path for video in survey.videos}
    items = [(row, paths.get(video_id)) for row, video_id in zip(rows, ids, strict=True)]
    findings, clean = check_all("verify --deep", items, _VideoCheck(store.path, encoded), workers)
    return findings, [row for row, _ in clean]


def check_all(
    what: str, items: Sequence[Item], check: Callable[[Item], list[Finding]], workers: Workers
) -> tuple[list[Finding], list[Item]]:
    """Findings of all items, and the items that were checked to their end without any."""
    findings: list[Finding] = []
    clean: list[Item] = []
    with progress(what, len(items), "videos" if what == "verify --deep" else "shards") as advance:

        def on_result(item: Item, outcome: Outcome[list[Finding]]) -> None:
            found = outcome.value if isinstance(outcome, Done) else [Finding(f"{what} {item}: {outcome.reason}")]
            findings.extend(found)
            if not found:
                clean.append(item)
            advance(1, f"{len(findings)} findings")

        run_tasks(items, check, workers, on_result)
    return sorted(findings, key=str), clean


@dataclass(frozen=True)
class _ShardCheck:
    store: Path

    @cached_property
    def _index(self) -> StoreIndex:
        return read_index(self.store)

    def __call__(self, number: int) -> list[Finding]:
        places = np.load(self.store / GOPS, mmap_mode="r", allow_pickle=False)
        return list(verify_shard(self.store, self._index, number, places[places["shard"] == number]))


@dataclass(frozen=True)
class _VideoCheck:
    store: Path
    encoded: Path

    def __call__(self, item: tuple[int, str | None]) -> list[Finding]:
        row, path = item
        store = Store(self.store)
        if path is None:
            video_id = store.videos.id(row)
            return [Finding(f"is not among the videos of {self.encoded}", store.shard_of(row), video_id)]
        return list(audit_video(store, row, self.encoded / path))
