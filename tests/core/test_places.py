"""gops.npy: what it says of a GOP is held against the bytes that are there, and nothing else is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.lib.recfunctions
import pytest
import xxhash
import zstandard

from mfcd_core.errors import ChecksumError, StoreError
from mfcd_core.store import Store
from mfcd_core.store.index import GOPS, read_index, write_index

if TYPE_CHECKING:
    from pathlib import Path


def test_a_whole_chunk_of_another_gop_is_refused(store_folder: Path) -> None:
    """It decompresses, and its own checksum holds: but it is not what was written there."""
    index, places = read_index(store_folder), np.load(store_folder / GOPS)
    places["offset"][0], places["sizes"][0] = places["offset"][1], places["sizes"][1]
    np.save(store_folder / GOPS, places)
    write_index(store_folder, index)
    with pytest.raises(ChecksumError, match=r"GOP 0 of 'jump/a': iframe/luma is damaged"):
        Store(store_folder).read_gop("jump/a", 0)


@pytest.mark.parametrize("data", [b"", b"no frame", zstandard.ZstdCompressor().compress(bytes(100))[:-2]])
def test_bytes_that_hold_nothing_are_refused_even_if_they_are_those_recorded(store_folder: Path, data: bytes) -> None:
    index, places = read_index(store_folder), np.load(store_folder / GOPS)
    path, start = store_folder / "shard-00000.h5", int(places["offset"][0])
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)
    places["sizes"][0, 0], places["checksums"][0, 0] = len(data), xxhash.xxh3_64_intdigest(data)
    np.save(store_folder / GOPS, places)
    write_index(store_folder, index)
    with pytest.raises(ChecksumError, match=r"GOP 0 of 'jump/a': iframe/luma (is damaged|has another size)"):
        Store(store_folder).read_gop("jump/a", 0)


def test_places_without_checksums_are_refused_with_what_to_do(store_folder: Path) -> None:
    index, places = read_index(store_folder), np.load(store_folder / GOPS)
    np.save(store_folder / GOPS, np.lib.recfunctions.drop_fields(places, "checksums"))
    write_index(store_folder, index)
    with pytest.raises(StoreError, match=r"gops.npy: .* expected \d+ GOPs as this version .*; run mfcd-prep extract"):
        Store(store_folder)


@pytest.mark.parametrize("column", ["offset", "sizes"])
def test_places_that_are_wrong_give_no_pixels(store_folder: Path, column: str) -> None:
    index, places = read_index(store_folder), np.load(store_folder / GOPS)
    places[column][0] += 1
    np.save(store_folder / GOPS, places)
    write_index(store_folder, index)
    with pytest.raises(ChecksumError, match=r"GOP 0 of 'jump/a': .* is damaged"):
        Store(store_folder).read_gop("jump/a", 0)
