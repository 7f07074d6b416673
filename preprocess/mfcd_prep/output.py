"""Faults of the place where results go, told apart from faults of the work itself."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mfcd_core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What to do, by what the system says; ffmpeg's log has the same words.
REMEDIES = {
    "No space left on device": "free some space",
    "Disk quota exceeded": "free some space or raise the quota",
    "File too large": "raise the limit on the size of files",
    "Read-only file system": "name a folder that can be written to",
    "Permission denied": "name a folder that can be written to",
    "Operation not permitted": "name a folder that can be written to",
    "No such file or directory": "was the folder moved or removed?",
    "Stale file handle": "was the folder moved or removed?",
    "Input/output error": "look after the disk",
}
_FAULTS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ESTALE,
    errno.EIO,
}


def output_error(folder: Path, said: str) -> OutputError:
    """The one line for a folder that cannot be written to."""
    return OutputError(f"cannot write to {folder} ({said}): {REMEDIES.get(said, 'mend it')}, then run again")


@contextmanager
def output_faults(folder: Path) -> Iterator[None]:
    """Raise OutputError in place of the OSError of a full, read-only or vanished output folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FAULTS:
            raise
        raise output_error(folder, error.strerror or str(error)) from None
