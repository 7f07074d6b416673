"""What was done, kept so that no kill loses it: one JSON line a record, on disk before the next begins.

Every process appends to a file of its own in one folder, so that many machines share it without locks. The last record
of an id counts. What a kill tore is no record.
"""

from __future__ import annotations

import json
import os
import time
from array import array
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
import xxhash

from mfcd_core.atomic import sync_folder, this_process
from mfcd_prep.output import output_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Record = dict[str, Any]
SUFFIX = ".jsonl"
MAX_OPEN_FILES = 64
TAIL_BYTES = 1 << 16
MAX_TIME_NS = 1 << 62


class Journal:
    """Appends records to a file of this process in `folder`; a record has at least an `id`.

    The file is made with the first record. Its times are later than all that the folder had then: clocks of machines
    differ, and are set back.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{this_process()}-{time.time_ns():x}{SUFFIX}"
        self._descriptor: int | None = None
        self._last_time = 0

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record, with the time, and wait until it is on disk. Raises OutputError where it cannot be."""
        with output_faults(self._path.parent):
            descriptor = self._opened()
            self._last_time = max(time.time_ns(), self._last_time + 1)
            line = json.dumps({**record, "at": self._last_time}, separators=(",", ":")) + "\n"
            _write_whole(descriptor, line.encode("ascii"))

    def _opened(self) -> int:
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._last_time = max(map(_last_time, self._path.parent.glob(f"*{SUFFIX}")), default=0)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            sync_folder(self._path.parent)
        return self._descriptor

    def close(self) -> None:
        """Close the file; every record is on disk already."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write_whole(descriptor: int, line: bytes) -> None:
    """Write all of it and wait until it is on disk."""
    written = os.write(descriptor, line)
    while written < len(line):
        written += os.write(descriptor, line[written:])
    os.fsync(descriptor)


class Records:
    """The last record of each id in a journal's folder, as it was when this was made.

    Holds 28 bytes a record whatever its length; a record is read when it is asked for. A missing folder has none.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob(f"*{SUFFIX}"))
        self._open: dict[int, BinaryIO] = {}
        hashes, files, offsets, times = array("Q"), array("i"), array("q"), array("q")
        for number, path in enumerate(self._paths):
            for offset, record in _iter_records(path):
                hashes.append(hash_id(record["id"]))
                files.append(number)
                offsets.append(offset)
                times.append(record["at"])
        order = np.lexsort((np.asarray(times), np.asarray(hashes)))
        self._hashes = np.asarray(hashes, np.uint64)[order]
        last = np.ones(len(order), np.bool_)
        last[:-1] = self._hashes[1:] != self._hashes[:-1]
        self._hashes = self._hashes[last]
        self._files = np.asarray(files, np.int32)[order[last]]
        self._offsets = np.asarray(offsets, np.int64)[order[last]]

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, record_id: str) -> Record | None:
        """The last record of this id, or None."""
        wanted = hash_id(record_id)
        row = int(np.searchsorted(self._hashes, np.uint64(wanted)))
        if row == len(self) or int(self._hashes[row]) != wanted:
            return None
        record = self._read(row)
        return record if record["id"] == record_id else None

    def iter_beyond(self, hashes: NDArray[np.uint64]) -> Iterator[Record]:
        """Yield the last records of ids that are not among these (`hash_id` of each)."""
        for row in np.flatnonzero(~np.isin(self._hashes, hashes)):
            yield self._read(int(row))

    def _read(self, row: int) -> Record:
        file = self._opened(int(self._files[row]))
        file.seek(int(self._offsets[row]))
        record: Record = json.loads(file.readline())
        return record

    def _opened(self, number: int) -> BinaryIO:
        """The file of this number, kept open among the last few that were read."""
        file = self._open.pop(number, None) or self._paths[number].open("rb")
        self._open[number] = file
        if len(self._open) > MAX_OPEN_FILES:
            self._open.pop(next(iter(self._open))).close()
        return file

    def close(self) -> None:
        """Close the files that are open."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hash_id(record_id: str) -> int:
    """64 bits that stand for an id."""
    return xxhash.xxh3_64_intdigest(record_id.encode("utf-8", "surrogatepass"))


def _last_time(path: Path) -> int:
    """The time of the last record of a file, which is its latest; 0 where there is none."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TAIL_BYTES, 0))
        records = map(_parse_line, reversed(file.read().splitlines(keepends=True)))
        return next((record["at"] for record in records if record), 0)


def _iter_records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield the place and the record of each whole line."""
    offset = 0
    with path.open("rb") as lines:
        for line in lines:
            if (record := _parse_line(line)) is not None:
                yield offset, record
            offset += len(line)


def _parse_line(line: bytes) -> Record | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and _is_named_and_timed(record) else None


def _is_named_and_timed(record: Record) -> bool:
    at = record.get("at")
    return isinstance(record.get("id"), str) and isinstance(at, int) and 0 <= at < MAX_TIME_NS
