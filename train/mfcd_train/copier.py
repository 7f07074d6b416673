"""Makes copies of shards on a node's own disk while training runs (docs/clusters.md).

A copy is whole as soon as it has its name, so the processes of a node need not speak to each other. Who copies a shard
holds a lock on the unfinished file: the system releases it when that process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import xxhash

from mfcd_core.console import say, warn
from mfcd_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mfcd_core.store import Store
    from mfcd_core.store.index import ShardEntry

FOLDER, PART = "mfcd-stage-", ".part"
LOCK, IN_USE = ".mfcd-stage.lock", ".in-use"
BLOCK_BYTES = 1 << 20
FREE_SHARE = 0.1  # of the disk, left alone where no limit is given
NICE = 10  # the copying thread gives way to those that read for the network
WAIT_SECONDS = 1.0  # before another look at shards that other processes copy


class _FullError(Exception):
    """No room is left for another copy."""


class _StoppedError(Exception):
    """Training has ended before everything was copied."""


@dataclass
class StageFolder:
    """The copies of one store's shards, beside those of other stores: together at most `limit_bytes`.

    Without a limit, a tenth of the disk is left free.
    """

    path: Path
    store: Store
    limit_bytes: int | None = None
    _in_use: int | None = None

    def __post_init__(self) -> None:
        self._sizes = {shard.name: shard.num_bytes for shard in self.store.shards}

    def copy_of(self, shard: ShardEntry) -> Path | None:
        """Path of the whole copy of a shard, if there is one."""
        path = self.path / shard.name
        return path if size_of(path) == shard.num_bytes else None

    def begin(self) -> None:
        """Keep others from evicting these copies until `close`, and remove what killed processes left half done."""
        with self._locked():
            self.path.mkdir(exist_ok=True)
            self._in_use = os.open(self.path / IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
            os.utime(self.path)
        for part in self.path.glob(f"*{PART}"):
            with claimed(part) as file:
                if file is not None:
                    part.unlink()
        if self.limit_bytes is not None:
            self._keep_limit()

    def _keep_limit(self) -> None:
        """Remove what lies here above a limit that is lower than that of an earlier start: at last own copies."""
        with self._locked():
            while self._room_bytes() < 0 and self._evict():
                pass
            for copy in sorted(self.path.glob("*.h5"), reverse=True):
                if self._room_bytes() < 0:
                    copy.unlink()

    def close(self) -> None:
        """Let others evict these copies."""
        if self._in_use is not None:
            os.close(self._in_use)
            self._in_use = None

    def reserve(self, file: int, num_bytes: int) -> None:
        """Give a file its size, for others to count, evicting copies of other stores where that makes room."""
        os.ftruncate(file, 0)
        with self._locked():
            while self._room_bytes() < num_bytes:
                if not self._evict():
                    limit = "a tenth of the disk is left free" if self.limit_bytes is None else "that is --stage-limit"
                    raise _FullError(limit)
            os.ftruncate(file, num_bytes)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the processes of this node, for moments."""
        with (self.path.parent / LOCK).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _room_bytes(self) -> float:
        if self.limit_bytes is None:
            disk = shutil.disk_usage(self.path)
            return disk.free - FREE_SHARE * disk.total
        own = sum(self._sizes.get(entry.name) or size_of(entry) for entry in os.scandir(self.path))
        return self.limit_bytes - own - sum(size_of(file) for folder in self._others() for file in folder.iterdir())

    def _others(self) -> list[Path]:
        return [path for path in self.path.parent.glob(f"{FOLDER}*") if path != self.path]

    def _evict(self) -> bool:
        """Remove the copies of the store that was begun to be used longest ago; False where all are in use."""
        for folder in sorted(self._others(), key=lambda path: path.stat().st_mtime):
            with (folder / IN_USE).open("ab") as file, suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                return True
        return False


@dataclass
class Copier:
    """Copies shards into a folder one by one, beside other processes that do the same.

    tells: whether to print what becomes of it.
    """

    folder: StageFolder
    shards: Sequence[ShardEntry]
    tells: bool = True
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Copy until all is there, or no room is left, or `stop` is set; then say how far it came. For a thread."""
        with suppress(OSError):  # of a system that cannot do it for one thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        with suppress(_StoppedError):
            try:
                self.folder.begin()
                self._copy_all()
            except _FullError as full:
                self._say(f"{self._how_far()} ({full}); the others are read from {self.folder.store.path}")
            except OSError as error:
                reason = error.strerror or error
                self._warn(f"{self._how_far()} ({reason}); the others are read from {self.folder.store.path}")
            else:
                self._say(self._how_far())

    def _how_far(self) -> str:
        there = [shard for shard in self.shards if self.folder.copy_of(shard)]
        gigabytes = sum(shard.num_bytes for shard in there) / 1e9
        return f"--stage: {len(there)} of {len(self.shards)} shards ({gigabytes:.2f} GB) are in {self.folder.path}"

    def _say(self, text: str) -> None:
        if self.tells:
            say(text)

    def _warn(self, text: str) -> None:
        if self.tells:
            warn(text)

    def _copy_all(self) -> None:
        left = list(self.shards)
        while left := [shard for shard in left if not self._settle(shard)]:
            if self.stop.wait(WAIT_SECONDS):
                raise _StoppedError

    def _settle(self, shard: ShardEntry) -> bool:
        """Copy a shard unless it is there; False where another process is at it."""
        if self.folder.copy_of(shard):
            return True
        path = self.folder.path / shard.name
        part = path.with_name(f"{path.name}{PART}")
        with claimed(part) as file:
            if file is None:
                return False
            try:
                if not self.folder.copy_of(shard):
                    self.folder.reserve(file, shard.num_bytes)
                    self._copy(shard, file)
                    part.rename(path)
            except StoreError as error:
                self._warn(f"--stage: {error}; {shard.name} is not copied")
            finally:
                part.unlink(missing_ok=True)
        return True

    def _copy(self, shard: ShardEntry, file: int) -> None:
        path, digest, num_bytes = self.folder.store.path / shard.name, xxhash.xxh3_128(), 0
        for block in _iter_blocks(path):
            if self.stop.is_set():
                raise _StoppedError
            digest.update(block)
            num_bytes += _write(file, block)
        if (num_bytes, digest.hexdigest()) != (shard.num_bytes, shard.checksum):
            raise StoreError(f"{path} has other bytes than index.json recorded; run mfcd-prep verify")
        os.fsync(file)


@contextmanager
def claimed(part: Path) -> Iterator[int | None]:
    """Descriptor of an unfinished file, made where it is missing; None where another process holds it."""
    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield file if _is_locked(file, part) else None
    finally:
        os.close(file)


def _is_locked(file: int, part: Path) -> bool:
    """Lock it, unless another process does, or has by now given it its final name, or removed it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file), part.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _iter_blocks(path: Path) -> Iterator[memoryview]:
    """The bytes of a file, in memory that is used again for each next block."""
    memory = memoryview(bytearray(BLOCK_BYTES))
    try:
        with path.open("rb", buffering=0) as source:
            while num_bytes := source.readinto(memory):
                yield memory[:num_bytes]
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror})") from None


def _write(file: int, block: memoryview) -> int:
    left = block
    while left:
        left = left[os.write(file, left) :]
    return len(block)


def size_of(path: str | os.PathLike[str]) -> int:
    """Bytes of a file, -1 where there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - faster than pathlib's, and asked before every read
    except OSError:
        return -1
