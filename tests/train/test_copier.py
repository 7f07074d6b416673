"""Copiers that share a disk: never more than its limit, each shard once, whoever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from staging import (
    NUM_SHARDS,
    OWN_MOUNTS,
    assert_whole,
    bytes_of,
    copies_in,
    everything,
    finish,
    only_folder,
    require_own_mounts,
    stage_all,
    start_stager,
    write_noise,
)

from mfcd_core.store import Store
from mfcd_core.store.index import file_checksum
from mfcd_train import copier
from mfcd_train.stage import staged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_no_more_is_copied_than_the_limit(store: Store, stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for limit, num_shards in ((bytes_of(store, 1) - 1, 0), (bytes_of(store, 3), 3), (bytes_of(store, 4) - 1, 3)):
        stage_all(store, stage, limit)
        assert_whole(only_folder(stage), store, num_shards)
        said = capsys.readouterr().err
        assert f"--stage: {num_shards} of 5 shards" in said
        assert said.endswith(f" (that is --stage-limit); the others are read from {store.path}\n")
    stage_all(store, stage, bytes_of(store, 5))
    assert_whole(only_folder(stage), store)


def test_a_lower_limit_than_before_removes_copies(
    store: Store, other: Store, stage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_all(other, stage)
    stage_all(store, stage)
    capsys.readouterr()
    stage_all(store, stage, bytes_of(store, 2))
    assert_whole(only_folder(stage), store, 2)  # those of the other store went first
    assert "--stage: 2 of 5 shards" in capsys.readouterr().err


def test_without_a_limit_a_tenth_of_the_disk_is_left_free(
    store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    total = bytes_of(store, 5) * 5

    def disk(folder: Path) -> SimpleNamespace:
        used = sum(path.stat().st_size for path in folder.glob("*.h5"))
        return SimpleNamespace(total=total, free=total // 10 + bytes_of(store, 2) + 99 - used)

    monkeypatch.setattr(shutil, "disk_usage", disk)
    stage_all(store, stage, None)
    assert_whole(only_folder(stage), store, 2)
    assert "(a tenth of the disk is left free)" in capsys.readouterr().err


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A store of other bytes."""
    return Store(write_noise(tmp_path / "other", seed=1))


def test_copies_of_another_store_go_when_their_room_is_needed(store: Store, other: Store, stage: Path) -> None:
    stage_all(other, stage)
    (theirs,) = stage.glob("mfcd-stage-*")
    stage_all(store, stage, bytes_of(store, 5) + bytes_of(other, 5))
    assert_whole(theirs, other)
    shutil.rmtree(next(folder for folder in stage.glob("mfcd-stage-*") if folder != theirs))
    stage_all(store, stage, bytes_of(store, 5) + bytes_of(other, 5) - 1)
    assert not theirs.exists()
    assert_whole(only_folder(stage), store)


def test_copies_in_use_stay_whoever_needs_room(
    store: Store, other: Store, stage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with staged(other, np.arange(10), stage=stage) as nearer:
        finish()
        stage_all(store, stage, bytes_of(store, 2) + bytes_of(other, 5))
        assert [len(copies_in(folder)) for folder in sorted(stage.glob("mfcd-stage-*"))].count(NUM_SHARDS) == 1
        assert sum(len(copies_in(folder)) for folder in stage.glob("mfcd-stage-*")) == NUM_SHARDS + 2
        assert everything(nearer) == everything(other)
    assert "2 of 5 shards" in capsys.readouterr().err


def test_the_store_unused_for_longest_goes_first(store: Store, other: Store, stage: Path, tmp_path: Path) -> None:
    third = Store(write_noise(tmp_path / "third", seed=2))
    for seconds, earlier in enumerate((other, third)):
        before = set(stage.glob("mfcd-stage-*"))
        stage_all(earlier, stage)
        (new,) = set(stage.glob("mfcd-stage-*")) - before
        os.utime(new, (seconds, seconds))
    stage_all(other, stage)
    stage_all(store, stage, bytes_of(store, 5) + bytes_of(other, 5))
    kept = sorted(
        copies_in(folder) and file_checksum(folder / "shard-00000.h5") for folder in stage.glob("mfcd-stage-*")
    )
    assert kept == sorted([store.shards[0].checksum, other.shards[0].checksum])


def test_a_full_disk_is_one_warning(store: Store, stage: Path) -> None:
    """A disk of three and a half shards; everything is read all the same."""
    require_own_mounts()
    stage.mkdir()
    size = bytes_of(store, 3) + store.shards[3].num_bytes // 2
    script = f"mount -t tmpfs -o size={size // 1024}k none {stage} && exec {sys.executable} -c '{READ_ALL}' $0 $1 $2"
    command = [*OWN_MOUNTS, "sh", "-c", script, store.path, stage, "1000000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (said,) = done.stderr.splitlines()
    assert said.startswith("warning: --stage: 3 of 5 shards (")
    assert said.endswith(f" (No space left on device); the others are read from {store.path}")
    assert json.loads(done.stdout) == {"files": 3, "gops": 10}


READ_ALL = """
import json, sys, threading
from pathlib import Path
import numpy as np
from mfcd_core.store import Store
from mfcd_train.stage import staged
store, stage = Store(sys.argv[1]), Path(sys.argv[2])
with staged(store, np.arange(10), stage=stage, stage_limit=int(sys.argv[3])) as nearer:
    [thread.join() for thread in threading.enumerate() if thread.name == "stage"]  # or it has ended by now
    gops = [nearer.read_gop(str(i), 0) for i in store.videos.ids]
print(json.dumps({"files": len(list(stage.glob("*/shard-*"))), "gops": len(gops)}))
"""


# Several processes, and kills


def test_processes_share_the_work(store: Store, stage: Path) -> None:
    """Each shard is copied once, by one of them."""
    stagers = [start_stager(store, stage, 0.01) for _ in range(2)]
    copied = [stager.communicate(timeout=60)[0].split() for stager in stagers]
    assert [stager.returncode for stager in stagers] == [0, 0]
    assert sorted(copied[0] + copied[1]) == [shard.name for shard in store.shards]
    assert_whole(only_folder(stage), store)


@contextmanager
def killed_in_a_copy(store: Store, stage: Path) -> Iterator[None]:
    """While it is copying its first shard, and has the lock."""
    victim = start_stager(store, stage, 100)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "shard-00000.h5\n"
    try:
        yield
    finally:
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        victim.stdout.close()


def test_the_next_start_finishes_what_a_killed_one_began(store: Store, stage: Path) -> None:
    with killed_in_a_copy(store, stage):
        assert copies_in(only_folder(stage)) == ["shard-00000.h5.part"]
    assert copies_in(only_folder(stage)) == ["shard-00000.h5.part"]
    stage_all(store, stage)
    assert_whole(only_folder(stage), store)


def test_a_killed_copier_does_not_stop_the_others(store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copier, "WAIT_SECONDS", 0.02)
    with killed_in_a_copy(store, stage):
        context = staged(store, np.arange(10), stage=stage)
        nearer = context.__enter__()
        deadline = time.monotonic() + 60
        while len(list(only_folder(stage).glob("*.h5"))) < NUM_SHARDS - 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "shard-00000.h5.part" in copies_in(only_folder(stage))
        assert everything(nearer) == everything(store)
    finish()
    context.__exit__(None, None, None)
    assert_whole(only_folder(stage), store)
