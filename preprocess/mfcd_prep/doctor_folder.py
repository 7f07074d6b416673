"""Checks of the folder that results are to go to."""

from __future__ import annotations

import errno
import os
import re
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mfcd_core.atomic import replacing
from mfcd_prep.verdict import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mfcd_prep.verdict import Verdict

MOUNTS = Path("/proc/mounts")
# fmt: off
NETWORKED = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs",
))
# fmt: on
LITTLE_SPACE_BYTES, NO_SPACE_BYTES = 10 << 30, 64 << 20
FEW_FILES = 10_000
SLOW_FSYNC_SECONDS = 0.05
NUM_FSYNCS = 5
BLOCK_BYTES = 4096


def check_folder(folder: Path) -> Verdict:
    """It is a folder, or can be made, and files can be made in it."""
    place = existing_part(folder)
    if not place.is_dir():
        return problem(f"{place} is a file, expected a folder", "name another folder, or move the file away")
    try:
        with _scratch(folder):
            pass
    except OSError as error:
        return problem(f"nothing can be made in {place}: {error.strerror}", _remedy(error, place))
    return ok(f"{folder} {'exists' if place == folder else 'can be made'}")


def check_space(folder: Path) -> Verdict:
    """Bytes and files that the file system still takes."""
    place = existing_part(folder)
    stat = os.statvfs(place)
    free, files = stat.f_bavail * stat.f_frsize, stat.f_favail
    found = f"{_gib(free)} free" + (f", {files} files" if stat.f_files else "")
    if free < NO_SPACE_BYTES:
        return problem(found, f"free space in {place}, or name a folder on another disk")
    if stat.f_files and files < FEW_FILES:
        return warning(found, f"remove small files from {place}: its file system runs out of inodes")
    if free < LITTLE_SPACE_BYTES:
        return warning(found, "a GOP of 12 frames at 256x256 takes about 190 KB in a store: see that yours fit")
    return ok(found)


def check_durable_write(folder: Path) -> Verdict:
    """Write, fsync, rename over an existing file, read back: what every result goes through."""
    old, new = b"old" * BLOCK_BYTES, os.urandom(3 * BLOCK_BYTES)
    try:
        with _scratch(folder) as scratch:
            for content in (old, new):
                with replacing(scratch / "result") as part:
                    part.write_bytes(content)
            got = (scratch / "result").read_bytes()
            left = len(list(scratch.iterdir())) - 1
    except OSError as error:
        place = existing_part(folder)
        return problem(f"write, fsync and rename failed in {place}: {error.strerror}", _remedy(error, place))
    if got != new or left:
        return problem("a rename over an existing file gave another content", "name a folder on another file system")
    return ok("write, fsync, rename over an existing file, read back")


def check_fsync_speed(folder: Path) -> Verdict:
    """Seconds that a small durable write takes; every video that is encoded waits for one or two."""
    try:
        with _scratch(folder) as scratch:
            seconds = statistics.median(_time_fsync(scratch / "block") for _ in range(NUM_FSYNCS))
    except OSError as error:
        place = existing_part(folder)
        return problem(f"fsync failed in {place}: {error.strerror}", _remedy(error, place))
    found = f"{1000 * seconds:.1f} ms for {BLOCK_BYTES} bytes"
    if seconds > SLOW_FSYNC_SECONDS:
        return warning(found, "slow, but safe: raise --jobs, or name a folder on a local disk and copy the result")
    return ok(found)


def check_file_system(folder: Path) -> Verdict:
    """Its type; on one of a network HDF5 must not ask for locks."""
    mounts = MOUNTS.read_text("utf-8", "replace") if MOUNTS.is_file() else ""
    point, kind = mount_of(existing_part(folder).resolve(), mounts)
    if kind not in NETWORKED:
        return ok(f"{kind} at {point}")
    found = f"{kind} at {point}, of a network"
    if os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in {"FALSE", "0"}:
        return ok(f"{found}; HDF5 asks for no locks")
    return warning(f"{found}: where it has no locks, HDF5 cannot write", "export HDF5_USE_FILE_LOCKING=FALSE")


def mount_of(path: Path, mounts: str) -> tuple[str, str]:
    """Mount point and type of the file system that holds an absolute path, by the text of /proc/mounts."""
    found = ("/", "unknown")
    for line in mounts.splitlines():
        _, escaped, kind, *_ = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped)
        if path.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, kind)
    return found


def existing_part(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder that is removed again, in `folder` or where it would be made."""
    with tempfile.TemporaryDirectory(prefix=".mfcd-doctor-", dir=existing_part(folder)) as name:
        yield Path(name)


def _time_fsync(path: Path) -> float:
    with path.open("wb") as file:
        file.write(bytes(BLOCK_BYTES))
        file.flush()
        start = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - start


def _remedy(error: OSError, place: Path) -> str:
    return {
        errno.ENOSPC: f"free space in {place}, or name a folder on another disk",
        errno.EDQUOT: f"free some of your quota in {place}, or name a folder on another disk",
        errno.EROFS: f"name another folder, or mount -o remount,rw the file system of {place}",
        errno.EACCES: f"name another folder, or chmod u+rwx {place}",
    }.get(error.errno or 0, "name another folder")


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
