"""verify: nothing to say of a good store, and every kind of damage found and named as closely as can be."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from corrupt import write_flipped
from synthetic import write_places, write_shard, write_store

from mfcd_core.store.index import GOPS, INDEX, VIDEOS, Shards, read_index, write_index
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.verify import Finding, verify_index, verify_shard

if TYPE_CHECKING:
    from pathlib import Path

    from synthetic import StoredGop

    from mfcd_core.store.settings import StoreSettings

FIRST = "shard-00000.h5"


def findings_of_shard(folder: Path, number: int) -> list[Finding]:
    places = np.load(folder / GOPS)
    return list(verify_shard(folder, read_index(folder), number, places[places["shard"] == number]))


def findings(folder: Path) -> list[Finding]:
    found = list(verify_index(folder))
    for number in range(len(read_index(folder).shards)):
        found += findings_of_shard(folder, number)
    return found


def said(found: list[Finding]) -> str:
    return "\n".join(map(str, found))


def test_a_good_store_has_no_findings(store_folder: Path) -> None:
    assert findings(store_folder) == []


def test_a_finding_names_what_is_known() -> None:
    finding = Finding("is odd", "shard-00000.h5", "walk/a", 3)
    assert str(finding) == "shard-00000.h5: walk/a: GOP 3: is odd"
    assert str(Finding("is odd")) == "is odd"
    assert finding.to_dict() == {"problem": "is odd", "shard": "shard-00000.h5", "video": "walk/a", "gop_index": 3}


def test_a_flipped_bit_in_any_chunk_names_shard_video_and_gop(store_folder: Path) -> None:
    path = store_folder / FIRST
    data, shard = path.read_bytes(), read_shard_file(path)
    names = [array.name for array in shard.settings.stored_arrays()]
    rng = np.random.default_rng(0)
    for gop, places in zip(shard.gops, shard.places, strict=True):
        for name, (offset, size) in zip(names, places.tolist(), strict=True):
            write_flipped(path, data, offset + int(rng.integers(size)), int(rng.integers(8)))
            whole_file, chunk = findings_of_shard(store_folder, 0)
            assert "other bytes than the index recorded" in whole_file.problem
            assert (chunk.shard, chunk.video, chunk.gop_index) == (FIRST, shard.ids[gop["video"]], gop["position"])
            assert chunk.problem == f"{name} has other bytes than were written"


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_anywhere_is_reported(store_folder: Path, seed: int) -> None:
    """The whole file, tables and HDF5's own rows included; no flip sends the reader round in circles."""
    path = store_folder / FIRST
    data = path.read_bytes()
    rng = np.random.default_rng(seed)
    meaningful = np.flatnonzero(np.frombuffer(data, np.uint8))
    for place in (*rng.integers(len(data), size=30).tolist(), *rng.choice(meaningful, 60).tolist()):
        write_flipped(path, data, place, int(rng.integers(8)))
        assert "other bytes than the index recorded" in said(findings_of_shard(store_folder, 0)), place


@pytest.mark.slow
def test_a_flipped_bit_in_any_byte_around_the_chunks_is_reported(store_folder: Path) -> None:
    path = store_folder / FIRST
    data, shard = path.read_bytes(), read_shard_file(path)
    first, last = int(shard.places[0, 0, 0]), int(shard.places[-1, -1].sum())
    for place in np.flatnonzero(np.frombuffer(data, np.uint8)).tolist():
        if not first <= place < last:
            write_flipped(path, data, place, place % 8)
            assert "other bytes than the index recorded" in said(findings_of_shard(store_folder, 0)), place


@pytest.mark.parametrize("keep", [0, 100, 0.3, 0.7, -1])
def test_a_truncated_shard(store_folder: Path, keep: float) -> None:
    data = (store_folder / FIRST).read_bytes()
    cut = data[: int(keep * len(data))] if 0 < keep < 1 else data[: int(keep)]
    (store_folder / FIRST).write_bytes(cut)
    size, what_to_do = map(str, findings_of_shard(store_folder, 0))
    assert size == f"{FIRST}: {len(cut)} bytes, expected {len(data)}"
    assert what_to_do.startswith(f"{FIRST}: not a readable shard (")
    assert what_to_do.endswith("; run mfcd-prep repair STORE ENCODED")


def test_places_without_checksums(store_folder: Path) -> None:
    """As an earlier version wrote them: no reader takes them, so that is no whole store."""
    index, places = read_index(store_folder), np.load(store_folder / GOPS)
    np.save(store_folder / GOPS, places[["shard", "offset", "sizes"]].copy())
    write_index(store_folder, index)
    found = [str(finding) for finding in verify_index(store_folder)]
    assert len(found) == 1
    assert re.fullmatch(rf"{GOPS}: .*, expected \d+ GOPs as this .*; run mfcd-prep extract again", found[0])


def test_a_missing_shard(store_folder: Path) -> None:
    (store_folder / FIRST).unlink()
    assert findings(store_folder) == [Finding("is missing", shard=FIRST)]


def test_a_shard_that_the_index_does_not_know(store_folder: Path) -> None:
    shutil.copy(store_folder / FIRST, store_folder / "shard-00007.h5")
    assert findings(store_folder) == [
        Finding("is not in the index; delete it, it is no part of the store", shard="shard-00007.h5")
    ]


@pytest.mark.parametrize("name", [INDEX, VIDEOS, GOPS])
def test_damaged_and_missing_index_files(store_folder: Path, name: str) -> None:
    data = (store_folder / name).read_bytes()
    (store_folder / name).write_bytes(data[:-3] + b"7" + data[-2:])
    (finding,) = verify_index(store_folder)
    assert finding.shard in (INDEX, name)
    assert finding.problem.count(INDEX) <= 1
    (store_folder / name).unlink()
    (finding,) = verify_index(store_folder)
    assert name in finding.problem


@pytest.mark.parametrize(("column", "by"), [("offset", 1), ("sizes", 1), ("shard", 1)])
def test_wrong_places(store_folder: Path, column: str, by: int) -> None:
    """An index that is whole, but tells other places than the shards."""
    index = read_index(store_folder)
    places = np.load(store_folder / GOPS)
    places[column][1] += by
    np.save(store_folder / GOPS, places)
    write_index(store_folder, index)
    assert findings(store_folder)[0] == Finding(
        "chunks lie elsewhere, or are others, than gops.npy says; run mfcd-prep extract again", shard=FIRST
    )


def test_an_index_without_one_of_the_shards(store_folder: Path, settings: StoreSettings) -> None:
    index = read_index(store_folder)
    shards = index.shards[:2]
    write_places(store_folder, settings, shards)
    write_index(store_folder, replace(index, shards=Shards.collect(shards)))
    text = said(findings(store_folder))
    assert "index.json: shards hold other videos than the 5 of the index" in text
    assert "index.json: shards hold other GOPs than the 9 of the index" in text
    assert "shard-00002.h5: is not in the index" in text


def test_a_whole_shard_of_other_videos(
    store_folder: Path, tmp_path: Path, settings: StoreSettings, videos: dict[str, list[StoredGop]]
) -> None:
    """Good in itself, and recorded as it is: its tables tell."""
    index = read_index(store_folder)
    short = replace(videos["jump/b c"][0], real_frames=2)
    entry = write_shard(tmp_path / FIRST, settings, {"jump/a": videos["jump/a"], "jump/x": [short]})
    shutil.move(tmp_path / FIRST, store_folder / FIRST)
    write_places(store_folder, settings, (entry, *index.shards[1:]))
    write_index(store_folder, replace(index, shards=Shards.collect([entry, *index.shards[1:]])))
    assert findings(store_folder) == [
        Finding("other videos than the index", shard=FIRST),
        Finding("other num_frames than the index", shard=FIRST),
    ]


def test_a_shard_of_other_settings(
    store_folder: Path, tmp_path: Path, settings: StoreSettings, videos: dict[str, list[StoredGop]]
) -> None:
    other = write_store(tmp_path / "other", replace(settings, level=2), videos)
    shutil.copy(other / FIRST, store_folder / FIRST)
    assert f"{FIRST}: other settings than the index" in said(findings(store_folder))


def test_a_chunk_taken_out(store_folder: Path) -> None:
    with h5py.File(store_folder / FIRST, "r+", libver=("v110", "v110")) as file:
        motion = file["motion"]
        shape, chunks, dtype = motion.shape, motion.chunks, motion.dtype
        del file["motion"]
        file.create_dataset("motion", shape, dtype, chunks=chunks, compression=32015)
    text = said(findings_of_shard(store_folder, 0))
    assert f"{FIRST}: GOP row 0 has a chunk that was never written" in text


def test_what_is_left_of_a_damaged_shard_is_still_checked(store_folder: Path) -> None:
    """Every damaged GOP is named, not only the first one."""
    path = store_folder / FIRST
    shard = read_shard_file(path)
    damaged = bytearray(path.read_bytes())
    for offset in shard.places[:, -1, 0]:
        damaged[offset + 40] ^= 1
    path.write_bytes(damaged)
    named = [(f.video, f.gop_index) for f in findings_of_shard(store_folder, 0) if f.video]
    assert named == [("jump/a", 0), ("jump/a", 1), ("jump/b c", 0)]
