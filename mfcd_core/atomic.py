"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART_SUFFIX = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success make it durable and rename it there, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = secrets.token_hex(4)  # the number of a process is not: each container counts from 1
    part = path.with_name(f".{path.name}.{unique}{PART_SUFFIX}")
    try:
        yield part
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def publish(part: Path, path: Path) -> None:
    """Make the finished file `part` durable and rename it to `path`, in the same file system."""
    _fsync(part, os.O_RDONLY)
    part.replace(path)
    _fsync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
