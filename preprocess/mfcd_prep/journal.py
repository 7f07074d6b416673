"""What was done, kept so that no kill loses it: one JSON line a record, on disk before the next begins."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Record = dict[str, Any]


class Journal:
    """Appends records to a file of JSON lines; a record has at least `id` and `key`.

    The key is a digest of everything that the result depends on: settings and the content of the input.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _ends_torn(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        if torn:
            os.write(self._descriptor, b"\n")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and wait until it is on disk."""
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n"
        os.write(self._descriptor, line.encode("ascii"))
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; every record is on disk already."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_journal(path: Path) -> dict[str, Record]:
    """The last record of each id; a missing file has none, a torn line is no record."""
    if not path.exists():
        return {}
    with path.open("rb") as lines:
        records = (_parse_line(line) for line in lines)
        return {record["id"]: record for record in records if record is not None}


def _parse_line(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"id", "key"} <= record.keys() else None


def _ends_torn(path: Path) -> bool:
    """Whether the last line lacks its end: a kill cut it off."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
