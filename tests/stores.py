"""What a store is on disk, file by file, for tests that compare two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcd_prep.extract import ExtractOptions

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = ExtractOptions(shard_gops=6)
"""Shards of one to three of the small videos."""


def files_of(store: Path) -> dict[str, bytes]:
    """Name and bytes of every file, the journal aside."""
    return {path.name: path.read_bytes() for path in store.glob("*") if path.is_file()}


def mtimes_of(store: Path) -> dict[str, int]:
    """Of each shard, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in store.glob("shard-*.h5")}


def journals(store: Path) -> list[Path]:
    """Files of the journal of extract."""
    return sorted((store / ".mfcd" / "extract").glob("*.jsonl"))
