"""What a run of encode has to do: sources, settings, journal and outputs in, one reason a video out."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from mfcd_core.catalog import read_catalog
from mfcd_core.errors import UsageError
from mfcd_prep.encode_entry import Entry, Todo
from mfcd_prep.failures import FAILURES_NAME
from mfcd_prep.journal import Records, hash_id
from mfcd_prep.manifest import MANIFEST_NAME, VideoRecord
from mfcd_prep.part import WHOLE
from mfcd_prep.workspace import file_stat, own_folder, require_outside, source_stat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.catalog import Catalog
    from mfcd_core.video import Video
    from mfcd_prep.encode_settings import EncodeSettings
    from mfcd_prep.part import Part
    from mfcd_prep.workspace import FileStat

STAT_THREADS = 16  # a network file system answers many at once
ROWS_AT_ONCE = 4096


STANDS = ""
WHYS = (
    STANDS,
    "new",
    "settings changed",
    "not finished last time",
    "more time allowed",
    "input changed",
    "output changed or missing",
)


def why_to_do(
    entry: Entry | None,
    settings: str,
    timeout_seconds: float | None,
    input_now: FileStat | None,
    output_now: FileStat | None,
) -> str:
    """Why a video is to be encoded: one of WHYS; STANDS where the journal's entry does, and a failure does too."""
    if entry is None:
        return "new"
    failed = entry.record.status != "ok"
    whys = (
        (entry.settings != settings, "settings changed"),
        (entry.retry, "not finished last time"),
        (entry.record.problem == "timeout" and _is_more(timeout_seconds, entry.timeout_seconds), "more time allowed"),
        (entry.input != input_now, "input changed"),
        (entry.output != output_now and not failed, "output changed or missing"),
    )
    return next((why for holds, why in whys if holds), STANDS)


def _is_more(now: float | None, then: float | None) -> bool:
    return then is not None and (now is None or now > then)


@dataclass(frozen=True)
class EncodePlan:
    """What a run would do.

    whys: (videos,) uint8, a row of WHYS for each video of the catalog. wanted: (videos,) bool, what the manifest is to
    hold at least; mine: those of this part. num_bytes: (videos,) int64, of the sources' files. vanished: ids of
    outputs whose source is gone.
    """

    catalog: Catalog
    encoded: Path
    settings: str
    timeout_seconds: float | None
    whys: NDArray[np.uint8]
    wanted: NDArray[np.bool_]
    mine: NDArray[np.bool_]
    num_bytes: NDArray[np.int64]
    vanished: tuple[str, ...]

    @property
    def todo(self) -> NDArray[np.bool_]:
        """(videos,): those that this run is to encode."""
        todo: NDArray[np.bool_] = self.mine & (self.whys != WHYS.index(STANDS))
        return todo

    @property
    def num_standing(self) -> int:
        """Videos of this part that need nothing."""
        return int(np.sum(self.mine & ~self.todo))

    @property
    def reasons(self) -> dict[str, int]:
        """How many videos are to do, by reason."""
        return {WHYS[why]: number for why, number in Counter(self.whys[self.todo].tolist()).items()}

    def iter_todo(self) -> Iterator[Todo]:
        """Yield what is to do, as it is drawn."""
        with Records(journal_folder(self.encoded)) as records:
            for row in np.flatnonzero(self.todo):
                video = self.catalog.videos[int(row)]
                yield Todo(video, WHYS[self.whys[row]], find_entry(records, video.id), int(self.num_bytes[row]))

    def stands(self, row: int, entry: Entry | None) -> bool:
        """Whether a later look at the journal has a result for a video, of this run or of another part."""
        if entry is None or entry.settings != self.settings:
            return False
        if self.mine[row] or self.whys[row] == WHYS.index(STANDS):
            return True
        return self._why(self.catalog.videos[row], entry) in (STANDS, "not finished last time")

    def _why(self, video: Video, entry: Entry | None) -> str:
        return why_to_do(entry, self.settings, self.timeout_seconds, *_stats(self.catalog, self.encoded, video))


def plan_videos(
    source: Path,
    encoded: Path,
    settings: EncodeSettings,
    lists: Sequence[Path] = (),
    *,
    limit: int | None = None,
    part: Part = WHOLE,
    timeout_seconds: float | None = None,
) -> EncodePlan:
    """Find out what is to do; changes nothing.

    Raises:
        UsageError: SOURCE or a list cannot be read, there is no video, or ENCODED lies within SOURCE.
    """
    catalog = read_catalog(source, lists)
    require_outside(encoded, source)
    if not catalog.videos:
        listed = f", first {catalog.unmatched[0]!r}" if catalog.unmatched else ""
        raise UsageError(
            f"{source} has no videos (left out: {dict(catalog.ignored) or 'nothing'}; entries of lists without a file: "
            f"{len(catalog.unmatched)}{listed}): expected class/video.mp4"
        )
    _require_free_names(catalog)
    digest = settings_digest(settings)
    hashes = np.fromiter((hash_id(video.id) for video in catalog.videos), np.uint64, len(catalog.videos))
    wanted = np.arange(len(hashes)) < (len(hashes) if limit is None else limit)
    mine = wanted & np.fromiter((part.takes(int(number)) for number in hashes), np.bool_, len(hashes))
    with Records(journal_folder(encoded)) as records:
        whys, num_bytes = _looked_at(catalog, encoded, records, digest, timeout_seconds)
        vanished = tuple(sorted(_iter_vanished(catalog.root, encoded, records, hashes)))
    return EncodePlan(catalog, encoded, digest, timeout_seconds, whys, wanted, mine, num_bytes, vanished)


def _require_free_names(catalog: Catalog) -> None:
    for name in (MANIFEST_NAME, FAILURES_NAME):
        if any(video.id.partition("/")[0] == name for video in catalog.videos):
            raise UsageError(
                f"{catalog.root / name} is a folder of videos, but encode writes {name}: rename the folder"
            )


def _looked_at(
    catalog: Catalog, encoded: Path, records: Records, settings: str, timeout_seconds: float | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`EncodePlan.whys` and `num_bytes`."""
    whys, num_bytes = np.zeros(len(catalog.videos), np.uint8), np.zeros(len(catalog.videos), np.int64)
    with ThreadPoolExecutor(STAT_THREADS) as threads:
        for start in range(0, len(whys), ROWS_AT_ONCE):
            videos = catalog.videos[start : start + ROWS_AT_ONCE]
            stats = list(threads.map(lambda video: _stats(catalog, encoded, video), videos))
            num_bytes[start : start + len(videos)] = [source.bytes if source else 0 for source, _ in stats]
            whys[start : start + len(videos)] = [
                WHYS.index(why_to_do(find_entry(records, video.id), settings, timeout_seconds, *files))
                for video, files in zip(videos, stats, strict=True)
            ]
    return whys, num_bytes


def _stats(catalog: Catalog, encoded: Path, video: Video) -> tuple[FileStat | None, FileStat | None]:
    return source_stat(catalog.root / video.path), file_stat(encoded / f"{video.id}.mp4")


def _iter_vanished(root: Path, encoded: Path, records: Records, hashes: NDArray[np.uint64]) -> Iterator[str]:
    """Yield the ids of outputs in ENCODED whose source is no more in SOURCE, listed or not."""
    for values in records.iter_beyond(hashes):
        record = VideoRecord.from_dict(values["record"])
        paths = PurePosixPath(record.source), PurePosixPath(record.id)
        if any(path.is_absolute() or ".." in path.parts for path in paths):
            continue  # not ours: a journal that was tampered with
        if file_stat(root / record.source) is None and file_stat(encoded / f"{record.id}.mp4") is not None:
            yield record.id


def find_entry(records: Records, video_id: str) -> Entry | None:
    """What the journal has of a video."""
    values = records.find(video_id)
    return None if values is None else Entry.from_dict(values)


def journal_folder(encoded: Path) -> Path:
    """Where encode keeps its journal."""
    return own_folder(encoded) / "encode"


def settings_digest(settings: EncodeSettings) -> str:
    """Stands for the settings in the journal."""
    return xxhash.xxh3_64_hexdigest(json.dumps(settings.to_dict(), sort_keys=True).encode())
