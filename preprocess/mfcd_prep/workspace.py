"""The product's own corner of an output folder: journals, and unfinished files that no reader takes for done."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from mfcd_core.atomic import is_left_over, remove_left_over, this_process
from mfcd_core.errors import SourceError, UsageError
from mfcd_core.names import OWN_FOLDER
from mfcd_prep.output import output_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class FileStat(NamedTuple):
    """What tells, without reading it, that a file is likely the one that was seen before.

    ctime_ns: of sources alone, where a new name matters not; it tells of bytes that were changed under an old time.
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int = 0


def file_stat(path: Path) -> FileStat | None:
    """Size and time of a regular file, or None where there is none."""
    if not path.is_file():
        return None
    stat = path.stat()
    return FileStat(stat.st_size, stat.st_mtime_ns)


def source_stat(path: Path) -> FileStat | None:
    """As `file_stat`, with the time of the last change of anything about the file."""
    if not path.is_file():
        return None
    stat = path.stat()
    return FileStat(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def parse_stat(values: Sequence[int] | None) -> FileStat | None:
    """The inverse of what JSON makes of a FileStat or None."""
    return None if values is None else FileStat(*values)


def require_present(folder: Path) -> None:
    """Raise SourceError where a folder that is read has vanished as a whole, or is empty, as a lost mount leaves it."""
    if not folder.is_dir() or not any(folder.iterdir()):
        raise SourceError(f"{folder} has vanished (a lost mount?): bring it back, then run the same command")


def own_folder(output: Path) -> Path:
    """Where journals and unfinished files of an output folder lie."""
    return output / OWN_FOLDER


def require_own_or_empty(output: Path) -> None:
    """Raise UsageError where an output folder holds what these commands did not make: nothing of it is overwritten."""
    if output.is_dir() and not own_folder(output).is_dir() and any(output.iterdir()):
        raise UsageError(f"{output} is not empty and was not made by mfcd-prep: name a new or an empty folder")


def require_outside(output: Path, source: Path) -> None:
    """Raise UsageError where an output folder is the one that is read, or lies in it."""
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{output} lies in {source}, whose videos are read: give a folder outside of it")


def _scratch_parent(output: Path) -> Path:
    return own_folder(output) / "tmp"


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """One process at a time, of all machines that share a folder; where its file system has no locks, none waits."""
    with output_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("ab")
    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def others_at_work(output: Path) -> bool:
    """Whether another process, on whatever machine, is between begin and end of its `scratch_folder` here."""
    return any(not is_left_over(folder, folder.name) for folder in _scratch_parent(output).glob("*"))


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """A folder for unfinished files of this process; those of dead processes are removed."""
    parent = _scratch_parent(output)
    with output_faults(output):
        parent.mkdir(parents=True, exist_ok=True)
        for folder in (output, *own_folder(output).iterdir()):
            remove_left_over(folder)
    for folder in parent.iterdir():
        if is_left_over(folder, folder.name):
            shutil.rmtree(folder, ignore_errors=True)
    scratch = parent / this_process()
    with output_faults(output):
        scratch.mkdir(exist_ok=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
