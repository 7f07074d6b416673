"""Checksums of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcd_prep.process import NO_DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

    import xxhash

    from mfcd_prep.process import Deadline

HASH_CHUNK_BYTES = 1 << 20


def hash_file(path: Path, digest: xxhash.xxh3_64 | xxhash.xxh3_128, deadline: Deadline = NO_DEADLINE) -> str:
    """Feed a file to `digest` and return its hexadecimal form. Raises DeadlineError."""
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            deadline.check()
            digest.update(chunk)
    return digest.hexdigest()
