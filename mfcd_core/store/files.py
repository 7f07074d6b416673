"""Open shards and zstd contexts of one process; reads that ride out a file system's short troubles (DESIGN 5)."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Result = TypeVar("Result")
MAX_OPEN_FILES = 128
TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT})
WAIT_SECONDS = (0.05, 0.2, 0.8, 3.2)  # before each further try


def patiently(read: Callable[[], Result]) -> Result:
    """What `read` returns; where it fails with what may pass (TRANSIENT), it is tried again after WAIT_SECONDS.

    Raises OSError for what does not pass.
    """
    for wait_seconds in WAIT_SECONDS:
        try:
            return read()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
        time.sleep(wait_seconds)
    return read()


class Copies(Protocol):
    """Knows of whole copies of shards that are nearer than the store; safe under threads and fork, picklable."""

    def find(self, name: str) -> Path | None:
        """Absolute path of the copy of a shard, asked before every read; None where there is none yet."""

    def give_up(self, name: str, error: Exception) -> bool:
        """Have done with the copy of a shard that could not be read; False where there was none."""


class _OpenFile:
    """A descriptor that closes itself when the last reader lets go of it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # bound: at the end of Python `os` is empty
        if hasattr(self, "descriptor"):
            close(self.descriptor)


class ShardFiles:
    """Shards of one folder, the last used ones open, read-only and without locks; begun anew after a fork.

    A file that is replaced by a rename goes on being read as it was, for as long as it stays open. Where `copies` has
    a copy of a shard, that is read from then on.
    """

    def __init__(self, folder: Path, copies: Copies | None = None) -> None:
        self._folder = folder
        self._copies = copies
        self.begin()
        _ALL.add(self)

    def begin(self) -> None:
        """Start with nothing: of a forked child's memory, another thread may have been halfway through."""
        self._lock = threading.Lock()
        self._files: OrderedDict[Path | str, _OpenFile] = OrderedDict()
        self._local = _ThreadState()

    def read(self, name: str, offset: int, num_bytes: int, room: memoryview | None = None) -> memoryview:
        """Bytes of a shard, fewer only where it ends, in `room`; without it they last until this thread's next call.

        What may pass is tried again (see `patiently`), a stale file after being opened anew. Raises OSError.
        """
        buffer = self._local.room(num_bytes) if room is None else room
        return patiently(lambda: self._read(name, offset, buffer))

    def _read(self, name: str, offset: int, buffer: memoryview) -> memoryview:
        try:
            file = self._open(self._place(name))  # held until it is read: another thread may push it out
            return _fill(file.descriptor, buffer, offset)
        except OSError as error:
            if error.errno == errno.ESTALE:
                self._forget(self._place(name))
            raise

    def announce(self, name: str, offset: int, num_bytes: int) -> None:
        """Have the system fetch these bytes in the background, where it can; what fails here fails in `read`."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._open(self._place(name)).descriptor, offset, num_bytes, os.POSIX_FADV_WILLNEED)

    def decompressor(self) -> zstandard.ZstdDecompressor:
        """The zstd context of this thread."""
        return self._local.decompressor

    def locate(self, name: str) -> Path:
        """Path at which a shard is read now."""
        return self._folder / self._place(name)

    def _place(self, name: str) -> Path | str:
        return (self._copies and self._copies.find(name)) or name

    def _open(self, place: Path | str) -> _OpenFile:
        with self._lock:
            if place not in self._files:
                self._files[place] = _OpenFile(self._folder / place)
                if len(self._files) > MAX_OPEN_FILES:
                    self._files.popitem(last=False)
            self._files.move_to_end(place)
            return self._files[place]

    def _forget(self, place: Path | str) -> None:
        with self._lock:
            self._files.pop(place, None)


class _ThreadState(threading.local):
    """What each thread has of its own: a zstd context, and a buffer as large as its largest read."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self._buffer = bytearray()

    def room(self, num_bytes: int) -> memoryview:
        if len(self._buffer) < num_bytes:
            self._buffer = bytearray(num_bytes)
        return memoryview(self._buffer)[:num_bytes]


def _fill(descriptor: int, buffer: memoryview, offset: int) -> memoryview:
    """Read until `buffer` is full or the file ends; a read that stops early is followed by another."""
    num_bytes = 0
    while num_bytes < len(buffer) and (more := os.preadv(descriptor, [buffer[num_bytes:]], offset + num_bytes)):
        num_bytes += more
    return buffer[:num_bytes]


_ALL: WeakSet[ShardFiles] = WeakSet()


def _begin_anew() -> None:
    for files in _ALL:
        files.begin()


os.register_at_fork(after_in_child=_begin_anew)
