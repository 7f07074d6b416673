"""Open shards: short troubles are ridden out, lasting ones named, and there are never too many descriptors."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import random_gop, write_store

from mfcd_core.errors import StoreError
from mfcd_core.store import Store, files
from mfcd_core.store.files import MAX_OPEN_FILES, WAIT_SECONDS, ShardFiles
from mfcd_core.store.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TEXT = b"0123456789"
NUM_SHARDS = 300
DESCRIPTORS = 256


class Disk:
    """Stands in for os.preadv: fails `num_failures` times with `number`, then reads, at most `most` bytes at once."""

    def __init__(self, num_failures: int = 0, number: int = 0, most: int = 1 << 30) -> None:
        self.left, self.number, self.most = num_failures, number, most
        self.waits: list[float] = []
        self._preadv = os.preadv

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return self._preadv(descriptor, [buffer[: self.most] for buffer in buffers], offset)

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> Disk:
        monkeypatch.setattr(files.os, "preadv", self.preadv)
        monkeypatch.setattr(files.time, "sleep", self.waits.append)
        return self


@pytest.fixture
def shards(tmp_path: Path) -> ShardFiles:
    (tmp_path / "a").write_bytes(TEXT)
    return ShardFiles(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN])
@pytest.mark.parametrize("num_failures", [1, len(WAIT_SECONDS)])
def test_a_trouble_that_passes_is_waited_for(
    shards: ShardFiles, monkeypatch: pytest.MonkeyPatch, number: int, num_failures: int
) -> None:
    disk = Disk(num_failures, number).put_in(monkeypatch)
    assert shards.read("a", 2, 5) == TEXT[2:7]
    assert disk.waits == list(WAIT_SECONDS[:num_failures])
    assert disk.waits == sorted(disk.waits)


def test_a_trouble_that_stays_is_an_error(shards: ShardFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(1000, errno.EIO).put_in(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        shards.read("a", 0, 1)
    assert disk.waits == list(WAIT_SECONDS)


def test_other_errors_are_not_tried_again(shards: ShardFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(1, errno.EACCES).put_in(monkeypatch)
    with pytest.raises(PermissionError):
        shards.read("a", 0, 1)
    with pytest.raises(FileNotFoundError):
        shards.read("b", 0, 1)
    assert disk.waits == []


@pytest.mark.parametrize("most", [1, 3])
def test_a_read_that_stops_early_goes_on(shards: ShardFiles, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    Disk(most=most).put_in(monkeypatch)
    assert shards.read("a", 1, 9) == TEXT[1:]


def test_a_file_that_ends_gives_what_it_has(shards: ShardFiles) -> None:
    assert shards.read("a", 8, 5) == TEXT[8:]
    assert shards.read("a", 90, 5) == b""


@pytest.mark.parametrize(("number", "read"), [(errno.ESTALE, b"new"), (errno.EIO, b"old")])
def test_only_a_stale_file_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, read: bytes
) -> None:
    """A file that was replaced by a rename stays what it was as long as it is open."""
    (tmp_path / "a").write_bytes(b"old")
    shards = ShardFiles(tmp_path)
    assert shards.read("a", 0, 3) == b"old"
    (tmp_path / "b").write_bytes(b"new")
    (tmp_path / "b").replace(tmp_path / "a")
    assert shards.read("a", 0, 3) == b"old"
    Disk(1, number).put_in(monkeypatch)
    assert shards.read("a", 0, 3) == read


def test_files_are_opened_to_read_and_never_locked(shards: ShardFiles) -> None:
    shards.read("a", 0, 1)
    (file,) = shards._files.values()
    assert fcntl.fcntl(file.descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    inode = os.fstat(file.descriptor).st_ino
    assert f":{inode} " not in Path("/proc/locks").read_text()


def test_a_file_that_cannot_be_opened_for_a_moment_is_waited_for(
    shards: ShardFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, failures, os_open = Disk().put_in(monkeypatch), [errno.ESTALE, errno.EIO], os.open

    def failing(path: Path, flags: int) -> int:
        if failures:
            raise OSError(failures.pop(), "a short trouble")
        return os_open(path, flags)

    monkeypatch.setattr(files.os, "open", failing)
    assert shards.read("a", 2, 5) == TEXT[2:7]
    assert disk.waits == list(WAIT_SECONDS[:2])


def test_what_will_be_read_is_announced_to_the_system(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very bytes that are read after it, with and without motion."""
    announced, read = [], []
    preadv = os.preadv
    monkeypatch.setattr(files.os, "posix_fadvise", lambda _file, *rest: announced.append(rest))
    monkeypatch.setattr(
        files.os,
        "preadv",
        lambda file, b, at: (read.append((at, len(b[0]), os.POSIX_FADV_WILLNEED)), preadv(file, b, at))[1],
    )
    store = Store(store_folder)
    for arrays in (store.settings.stored_arrays(), store.settings.stored_arrays()[:-1]):
        chunks = {array.name: array.empty_chunk() for array in arrays}
        store.announce(3, chunks)
        store.read_chunks(3, chunks)
    assert announced == read
    assert read[0][1] > read[1][1]


def test_an_announcement_that_fails_is_left_to_the_read(shards: ShardFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EINVAL, "no such advice here")

    monkeypatch.setattr(files.os, "posix_fadvise", refuse)
    shards.announce("a", 0, 5)
    shards.announce("not there", 0, 5)
    assert shards.read("a", 0, 5) == TEXT[:5]


AUDIT = """
import os, sys
events = []
def hook(name, arguments):
    if name.startswith("fcntl.") or (name == "open" and str(arguments[0]).startswith(sys.argv[1]) and (
        arguments[2] & (os.O_ACCMODE | os.O_CREAT) or set(arguments[1] or "r") & set("wax+"))):
        events.append((name, *map(str, arguments)))
sys.addaudithook(hook)
from mfcd_core.store import Store
store = Store(sys.argv[1])
for video_id in store.videos.ids.tolist():
    store.read_gop(video_id, 0)
print(events)
"""


def test_a_store_is_read_without_writing_or_locking_anything(store_folder: Path) -> None:
    """So it opens from a snapshot, and on file systems that have no locks."""
    before = {path.name: path.stat().st_mtime_ns for path in store_folder.iterdir()}
    ran = subprocess.run([sys.executable, "-c", AUDIT, store_folder], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert {path.name: path.stat().st_mtime_ns for path in store_folder.iterdir()} == before


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("few_descriptors")
def test_a_store_of_more_shards_than_descriptors_reads(tmp_path: Path) -> None:
    """Twice through all of it, in any order: 23,000 shards are read under a limit of 1024 in the same way."""
    settings, random = StoreSettings(4, 2, gop_size=2), np.random.default_rng(0)
    videos = {f"v{number:03}": [random_gop(settings, random)] for number in range(NUM_SHARDS)}
    store = Store(write_store(tmp_path / "store", settings, videos, videos_per_shard=1))
    assert len(store.shards) == NUM_SHARDS > DESCRIPTORS > MAX_OPEN_FILES
    for row in random.permutation(np.tile(np.arange(NUM_SHARDS), 2)).tolist():
        video_id = f"v{row:03}"
        read = store.read_gop(video_id, 0)
        assert np.array_equal(read.iframe["luma"], videos[video_id][0].arrays["iframe/luma"])


def test_a_read_that_keeps_failing_names_shard_video_and_gop(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(store_folder)
    Disk(1000, errno.EIO).put_in(monkeypatch)
    with pytest.raises(StoreError, match=r"shard-00001\.h5: GOP 1 of 'walk/v': cannot be read \(.*Input/output error"):
        store.read_gop("walk/v", 1)


def test_a_store_reads_through_a_short_trouble(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(store_folder)
    expected = store.read_gop("walk/v", 1)
    Disk(2, errno.EIO, most=1000).put_in(monkeypatch)
    assert np.array_equal(store.read_gop("walk/v", 1).motion, expected.motion)
