"""Stores in shards to be staged, and processes that stage them, as slowly as a test needs."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import random_gop, write_store

from mfcd_core.store.index import file_checksum
from mfcd_core.store.settings import StoreSettings
from mfcd_train.stage import staged

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_core.store import Store

NUM_SHARDS, NUM_VIDEOS = 5, 10
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")

STAGER = """
import sys, threading, time
from pathlib import Path
import numpy as np
from mfcd_core.store import Store
from mfcd_train import copier
from mfcd_train.stage import staged

def slowly(path, blocks=copier._iter_blocks):
    for number, block in enumerate(blocks(path)):
        if number == 0:
            print(path.name, flush=True)
        yield block
        time.sleep(float(sys.argv[3]))

copier._iter_blocks, copier.BLOCK_BYTES, copier.WAIT_SECONDS = slowly, 8192, 0.02
store = Store(sys.argv[1])
with staged(store, np.arange(len(store.videos)), stage=Path(sys.argv[2]), stage_limit=10**9):
    [thread.join() for thread in threading.enumerate() if thread.name == "stage"]
"""


def require_own_mounts() -> None:
    """Skip where a process may not mount file systems that it alone sees."""
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts in a name space of one's own are not permitted here")


def write_noise(folder: Path, seed: int) -> Path:
    """A store of five shards of two videos each, of one GOP each."""
    settings, random = StoreSettings(32, 16, gop_size=3), np.random.default_rng(seed)
    videos = {f"run/{number:02}": [random_gop(settings, random)] for number in range(NUM_VIDEOS)}
    return write_store(folder, settings, videos, videos_per_shard=2)


def finish() -> None:
    """Wait until everything that is to be copied is there."""
    for thread in threading.enumerate():
        if thread.name == "stage":
            thread.join(60)
            assert not thread.is_alive()


def stage_all(store: Store, stage: Path, limit_bytes: int | None = 10**9) -> None:
    """Copy all shards."""
    with staged(store, np.arange(len(store.videos)), stage=stage, stage_limit=limit_bytes):
        finish()


def start_stager(store: Store, stage: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that copies all shards, waiting `seconds` after each 8 KiB; it prints the names of those it begins."""
    command = [sys.executable, "-c", STAGER, str(store.path), str(stage), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def only_folder(stage: Path) -> Path:
    """The folder of the one store that is staged."""
    (folder,) = stage.glob("mfcd-stage-*")
    return folder


def copies_in(folder: Path) -> list[str]:
    """Names of the copies, unfinished ones too."""
    return sorted(path.name for path in folder.glob("shard-*"))


def everything(store: Store) -> list[bytes]:
    return [b"".join(plane.tobytes() for plane in store.read_gop(str(i), 0).iframe.values()) for i in store.videos.ids]


def assert_whole(folder: Path, store: Store, num_shards: int = NUM_SHARDS) -> None:
    """The first shards are there, byte for byte, and nothing unfinished."""
    names = [shard.name for shard in store.shards[:num_shards]]
    assert copies_in(folder) == names
    assert all(file_checksum(folder / shard.name) == shard.checksum for shard in store.shards[:num_shards])


def bytes_of(store: Store, num_shards: int) -> int:
    return sum(shard.num_bytes for shard in store.shards[:num_shards])
