"""Stores without compression: read by h5py alone, and guarded by the checksums of the index as zstd guards others."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import hdf5plugin
import numpy as np
import pytest
import xxhash
from synthetic import random_gop, write_shard, write_store

from mfcd_core.errors import ChecksumError, StoreError
from mfcd_core.store import Store
from mfcd_core.store.index import GOPS, read_index, write_index
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.verify import verify_index, verify_shard

if TYPE_CHECKING:
    from pathlib import Path

    from synthetic import StoredGop

SHARD = "shard-00000.h5"
ALL_SETTINGS = {
    "default": StoreSettings(32, 16, gop_size=4, compression="none"),
    "lossless rgb24": StoreSettings(18, 10, gop_size=3, compression="none", residual_step=1, pixel_format="rgb24"),
    "large": StoreSettings(258, 4, gop_size=2, compression="none"),
}


def gops_of(settings: StoreSettings, num_gops: int) -> list[StoredGop]:
    rng = np.random.default_rng(0)
    return [random_gop(settings, rng) for _ in range(num_gops)]


@pytest.fixture(params=list(ALL_SETTINGS))
def settings(request: pytest.FixtureRequest) -> StoreSettings:
    return ALL_SETTINGS[request.param]


@pytest.fixture
def folder(settings: StoreSettings, tmp_path: Path) -> Path:
    """One shard of two videos, of two GOPs and one."""
    gops = gops_of(settings, 3)
    return write_store(tmp_path / "store", settings, {"a": gops[:2], "b": gops[2:]})


def test_every_gop_comes_back(folder: Path, settings: StoreSettings) -> None:
    store, gops = Store(folder), gops_of(settings, 3)
    for stored, (video_id, gop_index) in zip(gops, [("a", 0), ("a", 1), ("b", 0)], strict=True):
        gop = store.read_gop(video_id, gop_index)
        assert np.array_equal(gop.motion, stored.arrays["motion"])
        for name, plane in gop.iframe.items():
            assert np.array_equal(plane, stored.arrays[f"iframe/{name}"])
            expected = stored.arrays[f"residual/{name}"].astype(int) * settings.residual_step
            assert np.array_equal(gop.residual[name], expected)


def test_h5py_alone_has_plain_values(folder: Path, settings: StoreSettings) -> None:
    """No filter, no digits, no differences: what is read is what the equations name; motion modulo 256 in a byte."""
    np.savez(folder / "expected.npz", **gops_of(settings, 3)[2].arrays)
    script = (
        "import sys, h5py, numpy as np\n"
        "expected = np.load(sys.argv[2])\n"
        "with h5py.File(sys.argv[1]) as shard:\n"
        "    for name in expected:\n"
        "        assert np.array_equal(shard[name][2], expected[name].astype(shard[name].dtype)), name\n"
        "assert not any(name.startswith(('mfcd', 'hdf5plugin')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, folder / SHARD, folder / "expected.npz"], check=True, timeout=60)


def test_attributes_say_that_nothing_is_to_undo(folder: Path, settings: StoreSettings) -> None:
    with h5py.File(folder / SHARD) as file:
        for array in settings.stored_arrays():
            how = file[array.name].attrs
            assert how["axes"].decode().split() == ["gop", *array.axes]
            assert how["difference"] == b""
            assert file[array.name].shape == (3, *how["shape"])


def test_checksums_of_the_index_are_those_of_the_bytes(folder: Path, settings: StoreSettings) -> None:
    data, places = (folder / SHARD).read_bytes(), np.load(folder / GOPS)
    for place in places:
        start = int(place["offset"])
        for size, checksum in zip(place["sizes"].tolist(), place["checksums"].tolist(), strict=True):
            assert xxhash.xxh3_64_intdigest(data[start : start + size]) == checksum
            start += size
    assert places["sizes"][0].tolist() == [a.read_dtype.itemsize * np.prod(a.shape) for a in settings.stored_arrays()]


def test_a_flipped_bit_in_any_chunk_is_refused_and_found(folder: Path, settings: StoreSettings) -> None:
    path, store = folder / SHARD, Store(folder)
    data, place = path.read_bytes(), store.places[1]
    rng, start = np.random.default_rng(1), int(place["offset"])
    for array, size in zip(settings.stored_arrays(), place["sizes"].tolist(), strict=True):
        for at in [start, start + size - 1, *rng.integers(start, start + size, 6).tolist()]:
            damaged = bytearray(data)
            damaged[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(ChecksumError, match=f"{SHARD}: GOP 1 of 'a': {array.name} is damaged"):
                Store(folder).read_gop("a", 1)
            found = list(verify_shard(folder, read_index(folder), 0, store.places))
            assert [(f.video, f.gop_index) for f in found if f.video] == [("a", 1)]
            assert "other bytes than the index recorded" in [f.problem for f in found]
        start += size


def test_a_flipped_bit_anywhere_is_found(folder: Path) -> None:
    path, places = folder / SHARD, np.load(folder / GOPS)
    data, rng = path.read_bytes(), np.random.default_rng(2)
    for at in rng.integers(0, len(data), 60).tolist():
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert {f.shard for f in verify_shard(folder, read_index(folder), 0, places)} == {SHARD}


def test_a_good_store_has_no_findings(folder: Path) -> None:
    assert [*verify_index(folder), *verify_shard(folder, read_index(folder), 0, np.load(folder / GOPS))] == []


def test_checksums_that_the_shard_does_not_have_are_found(folder: Path) -> None:
    index, places = read_index(folder), np.load(folder / GOPS)
    places["checksums"][0, 0] += 1
    np.save(folder / GOPS, places)
    write_index(folder, index)
    with pytest.raises(ChecksumError, match="GOP 0 of 'a'"):
        Store(folder).read_gop("a", 0)
    assert [str(f) for f in verify_shard(folder, index, 0, places)] == [
        f"{SHARD}: chunks lie elsewhere, or are others, than gops.npy says; run mfcd-prep extract again"
    ]


def test_chunks_that_are_compressed_all_the_same_are_refused(tmp_path: Path) -> None:
    settings = ALL_SETTINGS["default"]
    write_shard(tmp_path / SHARD, settings, {"a": gops_of(settings, 1)})
    with h5py.File(tmp_path / SHARD, "r+", libver=("v110", "v110")) as file:
        values = file["motion"][()]
        del file["motion"]
        file.create_dataset("motion", data=values, chunks=(1, *values.shape[1:]), **hdf5plugin.Zstd())
    with pytest.raises(StoreError, match="motion has other filters than none"):
        read_shard_file(tmp_path / SHARD)


def test_the_same_gops_give_the_same_bytes(tmp_path: Path) -> None:
    settings = ALL_SETTINGS["default"]
    for name in ("first.h5", "second.h5"):
        write_shard(tmp_path / name, settings, {"a": gops_of(settings, 2)})
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()


def test_shards_of_the_other_kind_are_not_taken_for_ours(folder: Path, settings: StoreSettings, tmp_path: Path) -> None:
    other = write_store(tmp_path / "zstd", replace(settings, compression="zstd"), {"a": gops_of(settings, 3)})
    shutil.copy(other / SHARD, folder / SHARD)
    problems = [f.problem for f in verify_shard(folder, read_index(folder), 0, np.load(folder / GOPS))]
    assert "other settings than the index" in problems
