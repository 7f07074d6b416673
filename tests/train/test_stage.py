"""Shards on a local disk: only whole copies of the right bytes are read, and no trouble with them stops training."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import shutil
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from staging import (
    assert_whole,
    copies_in,
    everything,
    finish,
    only_folder,
    stage_all,
)

from mfcd_core.store import Store
from mfcd_core.store.index import StoreIndex, read_index, write_index
from mfcd_train import copier
from mfcd_train.stage import StagedShards, shards_of, staged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def flip_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


# What is copied, and what is read


def test_only_shards_with_videos_that_are_read_are_copied(store: Store, stage: Path) -> None:
    first, last = np.array([0, 1, 2]), np.array([9])
    assert [shard.name for shard in shards_of(store, first, last)] == [
        "shard-00000.h5", "shard-00001.h5", "shard-00004.h5",
    ]  # fmt: skip
    with staged(store, first, last, stage=stage):
        finish()
    assert copies_in(only_folder(stage)) == ["shard-00000.h5", "shard-00001.h5", "shard-00004.h5"]


def test_copies_are_the_bytes_of_the_shards(store: Store, stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage_all(store, stage)
    assert_whole(only_folder(stage), store)
    said = capsys.readouterr().err.strip()
    assert said.startswith("--stage: 5 of 5 shards (")
    assert said.endswith(f"are in {only_folder(stage)}")


def test_a_shard_is_read_from_the_store_until_its_copy_is_there_and_then_from_the_copy(
    store: Store, tmp_path: Path
) -> None:
    expected, nearer = everything(store), Store(store.path, StagedShards(tmp_path / "near", store.shards))
    assert everything(nearer) == expected
    (tmp_path / "near").mkdir()
    for shard in store.shards[:3]:
        shutil.copyfile(store.path / shard.name, tmp_path / "near" / shard.name)
        (store.path / shard.name).unlink()
    assert everything(nearer) == expected


def test_a_file_that_is_not_yet_whole_is_not_read(store: Store, tmp_path: Path) -> None:
    shard = store.shards[0]
    nearer = Store(store.path, StagedShards(tmp_path, store.shards))
    (tmp_path / shard.name).write_bytes((store.path / shard.name).read_bytes()[:-1])
    assert everything(nearer) == everything(store)


def test_nobody_waits_for_a_copy(store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_copy, blocks = threading.Event(), copier._iter_blocks

    def waiting(path: Path) -> Iterator[bytes]:
        assert may_copy.wait(60)
        yield from blocks(path)

    monkeypatch.setattr(copier, "_iter_blocks", waiting)
    with staged(store, np.arange(10), stage=stage) as nearer:
        assert everything(nearer) == everything(store)
        assert copies_in(only_folder(stage)) in ([], ["shard-00000.h5.part"])
        may_copy.set()
        finish()
    assert_whole(only_folder(stage), store)


def test_a_staged_store_has_its_index_in_memory_once(store: Store, stage: Path) -> None:
    with staged(store, np.arange(10), stage=stage) as nearer:
        finish()
        assert nearer is not store
        assert nearer.places is store.places
        assert nearer.videos is store.videos
        assert nearer.shards is store.shards


def test_an_end_in_the_middle_leaves_nothing_unfinished(
    store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, blocks = threading.Event(), copier._iter_blocks

    def endless(path: Path) -> Iterator[bytes]:
        (block,) = blocks(path)
        while path.name == "shard-00002.h5":
            begun.set()
            yield block[:10]
        yield block

    monkeypatch.setattr(copier, "_iter_blocks", endless)
    with staged(store, np.arange(10), stage=stage):
        assert begun.wait(60)
    assert [thread for thread in threading.enumerate() if thread.name == "stage"] == []
    assert_whole(only_folder(stage), store, 2)


def test_a_store_with_copies_is_pickled_with_them(store: Store, tmp_path: Path) -> None:
    nearer = Store(store.path, StagedShards(tmp_path, store.shards))
    shutil.copyfile(store.path / "shard-00000.h5", tmp_path / "shard-00000.h5")
    (store.path / "shard-00000.h5").unlink()
    gop = pickle.loads(pickle.dumps(nearer)).read_gop("run/00", 0)  # noqa: S301 - our own
    assert gop.motion.shape == (2, 2, 16, 32)


# What is refused


def test_a_damaged_shard_is_not_copied(store: Store, stage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip_byte(store.path / "shard-00001.h5", 100)
    stage_all(store, stage)
    assert copies_in(only_folder(stage)) == [f"shard-0000{i}.h5" for i in (0, 2, 3, 4)]
    warning, summary = capsys.readouterr().err.splitlines()
    assert warning == (
        f"warning: --stage: {store.path}/shard-00001.h5 has other bytes than index.json recorded; run mfcd-prep "
        "verify; shard-00001.h5 is not copied"
    )
    assert summary.startswith("--stage: 4 of 5 shards")


@pytest.mark.parametrize("num_bytes", [-7, 7])
def test_a_shard_that_is_replaced_while_others_are_copied_is_refused(
    store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch, num_bytes: int
) -> None:
    def replacing(path: Path) -> Iterator[bytes]:
        if path.name == "shard-00002.h5":
            new = path.read_bytes()
            path.with_suffix(".new").write_bytes(new + b"1234567" if num_bytes > 0 else new[:num_bytes])
            path.with_suffix(".new").replace(store.path / "shard-00003.h5")
        yield path.read_bytes()

    monkeypatch.setattr(copier, "_iter_blocks", replacing)
    stage_all(store, stage)
    assert copies_in(only_folder(stage)) == [f"shard-0000{i}.h5" for i in (0, 1, 2, 4)]


def test_a_shard_that_cannot_be_read_is_named_and_left(
    store: Store, stage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.path / "shard-00003.h5").unlink()
    stage_all(store, stage)
    assert copies_in(only_folder(stage)) == [f"shard-0000{i}.h5" for i in (0, 1, 2, 4)]
    assert "shard-00003.h5 cannot be read (No such file or directory); shard-00003.h5 is not" in capsys.readouterr().err


def test_a_copy_that_goes_bad_is_removed_and_read_from_the_store(
    store: Store, stage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = everything(store)
    stage_all(store, stage)
    copy, place = only_folder(stage) / "shard-00000.h5", store.places[0]
    flip_byte(copy, int(place["offset"]) + int(place["sizes"][0]) - 1)  # of the checksum
    capsys.readouterr()
    nearer = Store(store.path, StagedShards(only_folder(stage), store.shards))
    assert everything(nearer) == expected
    assert everything(nearer) == expected
    (said,) = capsys.readouterr().err.splitlines()
    assert f"warning: {copy}: GOP 0 of 'run/00': iframe/luma is damaged" in said
    assert said.endswith("this copy is removed, and shard-00000.h5 is read from the store")
    assert not copy.exists()


def test_a_bad_copy_on_a_disk_that_became_read_only_is_read_from_the_store(
    store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    stage_all(store, stage)
    flip_byte(only_folder(stage) / "shard-00000.h5", int(store.places["offset"][0]) + 20)
    capsys.readouterr()
    nearer = Store(store.path, StagedShards(only_folder(stage), store.shards))
    monkeypatch.setattr("pathlib.Path.unlink", refused)
    assert everything(nearer) == everything(store)
    said = capsys.readouterr().err
    assert "this copy is left alone (Read-only file system), and shard-00000.h5 is read from the store" in said


def test_copies_that_vanish_are_read_from_the_store(store: Store, stage: Path) -> None:
    expected = everything(store)
    stage_all(store, stage)
    nearer = Store(store.path, StagedShards(only_folder(stage), store.shards))
    assert nearer.read_gop("run/00", 0).real_frames == 3
    shutil.rmtree(stage)
    nearer._files.begin()  # as where other shards have pushed it out
    assert everything(nearer) == expected


def test_a_disk_without_locks_is_one_warning(
    store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_file: object, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    stage_all(store, stage)
    said = capsys.readouterr().err
    assert said.startswith("warning: --stage: 0 of 5 shards (0.00 GB) are in ")
    assert said.endswith(f" (No locks available); the others are read from {store.path}\n")
    assert copies_in(only_folder(stage)) == []


# Starting again


def test_copies_are_used_again(store: Store, stage: Path) -> None:
    stage_all(store, stage)
    before = {path.name: path.stat() for path in only_folder(stage).glob("*.h5")}
    (only_folder(stage) / "shard-00002.h5").write_bytes(b"too short")
    stage_all(store, stage)
    assert_whole(only_folder(stage), store)
    after = {path.name: path.stat() for path in only_folder(stage).glob("*.h5")}
    changed = [name for name in before if before[name].st_mtime_ns != after[name].st_mtime_ns]
    assert changed == ["shard-00002.h5"]


def test_a_corrected_label_keeps_the_copies(store: Store, stage: Path) -> None:
    stage_all(store, stage)
    index = read_index(store.path)
    write_index(store.path, StoreIndex(**{**vars(index), "classes": ("jog", *index.classes[1:])}))
    assert Store(store.path).checksum != store.checksum
    stage_all(Store(store.path), stage)
    assert_whole(only_folder(stage), store)


def test_what_a_killed_copier_left_is_removed(store: Store, stage: Path) -> None:
    stage_all(store, stage)
    folder = only_folder(stage)
    for name in ("shard-00001.h5.part", "shard-00099.h5.part"):
        (folder / name).write_bytes(b"half")
    stage_all(store, stage)
    assert_whole(folder, store)


def test_a_shard_that_another_process_copies_is_left_to_it(
    store: Store, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until that one ends without having done it."""
    monkeypatch.setattr(copier, "WAIT_SECONDS", 0.02)
    stage_all(store, stage)
    folder = only_folder(stage)
    (folder / "shard-00001.h5").unlink()
    other = (folder / "shard-00001.h5.part").open("wb")
    fcntl.flock(other, fcntl.LOCK_EX)
    with staged(store, np.arange(10), stage=stage):
        time.sleep(0.1)
        assert "shard-00001.h5" not in copies_in(folder)
        other.close()
        finish()
    assert_whole(folder, store)
