"""Every single flipped bit of a store is found, and named as closely as the place of the bit allows."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from corrupt import write_flipped

from mfcd_core.store.index import GOPS, INDEX, VIDEOS
from mfcd_core.store.verify import verify_index
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.verify import verify_store
from mfcd_prep.workers import IN_THIS_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mfcd_core.store.verify import Finding

SHARD = "shard-00000.h5"
GOP_ORDER = [("jump/a", 0), ("jump/a", 1), ("jump/b", 0), ("jump/b", 1), ("run/c", 0)]
GOP_ORDER += [("run/d", 0), ("run/d", 1), ("run/d", 2), ("run/e", 0)]  # of 24, 30, 12, 36 and 7 frames
NUM_FLIPS = 400


@pytest.fixture(scope="module")
def store_once(encoded_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("flips") / "store"
    extract_videos(encoded_once, store, ExtractOptions())
    assert [path.name for path in store.glob("*.h5")] == [SHARD]
    return store


@pytest.fixture
def store(store_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(store_once, tmp_path / "store")


def chunks_of(path: Path) -> list[tuple[int, int, int]]:
    """Start, stop and row of every chunk, as HDF5 says."""
    found: list[tuple[int, int, int]] = []
    with h5py.File(path) as file:

        def note(_: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset) and item.chunks:
                infos = (item.id.get_chunk_info(row) for row in range(len(item)))
                found.extend((i.byte_offset, i.byte_offset + i.size, i.chunk_offset[0]) for i in infos)

        file.visititems(note)
    return found


def findings_in(store: Path) -> tuple[Finding, ...]:
    return verify_store(store, None, IN_THIS_PROCESS).findings


@pytest.mark.slow
def test_each_bit_of_a_shard_names_the_shard_and_in_a_chunk_the_gop(store: Path) -> None:
    path = store / SHARD
    data, chunks = path.read_bytes(), chunks_of(path)
    rng = np.random.default_rng(11)
    num_in_chunks = 0
    for _ in range(NUM_FLIPS):
        place = int(rng.integers(len(data)))
        write_flipped(path, data, place, int(rng.integers(8)))
        findings = findings_in(store)
        assert {finding.shard for finding in findings} == {SHARD}, place
        expected = [GOP_ORDER[row] for start, stop, row in chunks if start <= place < stop]
        if expected:
            assert [(f.video, f.gop_index) for f in findings if f.video] == expected, place
            num_in_chunks += 1
    assert 50 < num_in_chunks < NUM_FLIPS


@pytest.mark.slow
def test_every_bit_of_the_tables_of_a_shard_is_found(store: Path) -> None:
    """Ids, counts, places and checksums: the bytes that HDF5 itself does not check."""
    path = store / SHARD
    data = path.read_bytes()
    rng = np.random.default_rng(12)
    with h5py.File(path) as file:
        tables = [(file[name].id.get_offset(), file[name].id.get_storage_size()) for name in ("videos", "gops")]
    for start, size in tables:
        for place in rng.choice(size, min(size, 150), replace=False).tolist():
            write_flipped(path, data, start + place, int(rng.integers(8)))
            findings = findings_in(store)
            assert {finding.shard for finding in findings} == {SHARD}
            assert "other bytes than the index recorded" in [finding.problem for finding in findings]


@pytest.mark.slow
def test_every_bit_of_the_index_is_found(store: Path) -> None:
    data = (store / INDEX).read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            write_flipped(store / INDEX, data, place, bit)
            assert [finding.shard for finding in verify_index(store)] == [INDEX], (place, bit)


@pytest.mark.parametrize("name", [VIDEOS, GOPS])
def test_a_bit_of_the_tables_beside_the_index_is_found(store: Path, name: str) -> None:
    data = (store / name).read_bytes()
    rng = np.random.default_rng(13)
    for place in rng.choice(len(data), min(len(data), 300), replace=False).tolist():
        write_flipped(store / name, data, place, int(rng.integers(8)))
        (finding,) = verify_index(store)
        assert name in str(finding)
        assert findings_in(store)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def as_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncated, emptied, longer, as_a_folder], ids=lambda damage: damage.__name__)
def test_a_torn_shard_is_named(store: Path, damage: Callable[[Path], None]) -> None:
    damage(store / SHARD)
    summary = verify_store(store, None, IN_THIS_PROCESS)
    assert {finding.shard for finding in summary.findings} == {SHARD}
    assert summary.num_shards_damaged == 1


def test_two_shards_swapped_are_both_named(encoded_once: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    extract_videos(encoded_once, store, ExtractOptions(shard_gops=1))
    first, second = store / "shard-00001.h5", store / "shard-00003.h5"
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    findings = findings_in(store)
    assert {finding.shard for finding in findings} == {first.name, second.name}
    assert {f.shard for f in findings if f.problem == "other videos than the index"} == {first.name, second.name}
