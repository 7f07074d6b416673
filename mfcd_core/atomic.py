"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PART_SUFFIX = ".part"
FOREIGN_SECONDS = 24 * 3600.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success make it durable and rename it there, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{secrets.token_hex(4)}.{this_process()}"  # containers may share a host's name, and count from 1
    part = path.with_name(f".{path.name}.{unique}{PART_SUFFIX}")
    try:
        yield part
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def this_process() -> str:
    """A name for this process among those of many machines; see `name_process`."""
    return name_process(os.getpid())


def name_process(number: int) -> str:
    """`host-number_start` of a process of this machine: numbers are given again, above all after a restart."""
    return f"{_host()}-{number}_{_start_of(number)}"


def _start_of(number: int) -> str:
    """Clock ticks from the start of the machine to that of a process; empty where there is none."""
    try:
        fields = Path("/proc", str(number), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]  # starttime, field 22 of proc(5): the first two end with the parenthesis


def _host() -> str:
    """This machine, or the container on it that counts its processes by itself."""
    numbers = Path("/proc/self/ns/pid")
    inside = f"-{numbers.stat().st_ino}" if numbers.exists() else ""
    return socket.gethostname().replace(".", "_") + inside


def is_left_over(path: Path, process: str) -> bool:
    """Whether a process (as `this_process` names it) that made `path` is gone; on another machine, after a day.

    A path that vanishes meanwhile is not left over: somebody else saw to it.
    """
    host, _, known = process.rpartition("-")
    number = known.partition("_")[0]
    if host == _host() and number.isdecimal():
        return int(number) == os.getpid() or not _start_of(int(number)) or name_process(int(number)) != process
    try:
        return time.time() - path.stat().st_mtime > FOREIGN_SECONDS
    except FileNotFoundError:
        return False


def remove_left_over(folder: Path) -> None:
    """Remove what `replacing` left in a folder when its process was killed."""
    for part in folder.glob(f".*{PART_SUFFIX}"):
        if is_left_over(part, part.name.removesuffix(PART_SUFFIX).rpartition(".")[2]):
            part.unlink(missing_ok=True)


def publish(part: Path, path: Path) -> None:
    """Make the finished file `part` durable and rename it to `path`, in the same file system."""
    sync_file(part)
    part.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until what a file holds is on disk."""
    _fsync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk: until then a power cut may undo a rename."""
    _fsync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
