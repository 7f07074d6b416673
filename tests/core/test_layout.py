"""Shards that others made or damaged: links, storage elsewhere, filters and tables that contradict are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import hdf5plugin
import numpy as np
import pytest
from synthetic import random_gop, write_shard

from mfcd_core.errors import StoreError
from mfcd_core.store.layout import read_shard_file, require_adjacent
from mfcd_core.store.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = StoreSettings(32, 16, gop_size=4)
OTHER = "other.h5"


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A good shard, and another good one beside it that links could lead to."""
    rng = np.random.default_rng(0)
    videos = {"a": [random_gop(SETTINGS, rng) for _ in range(2)], "b": [random_gop(SETTINGS, rng)]}
    for name in ("shard.h5", OTHER):
        write_shard(tmp_path / name, SETTINGS, videos)
    return tmp_path / "shard.h5"


def external_link(file: h5py.File) -> None:
    del file["motion"]
    file["motion"] = h5py.ExternalLink(OTHER, "/motion")


def external_link_to_a_group(file: h5py.File) -> None:
    del file["residual"]
    file["residual"] = h5py.ExternalLink(OTHER, "/residual")


def soft_link(file: h5py.File) -> None:
    file.move("iframe/luma", "elsewhere")
    file["iframe/luma"] = h5py.SoftLink("/elsewhere")


def linked_table(file: h5py.File) -> None:
    del file["gops"]
    file["gops"] = h5py.ExternalLink(OTHER, "/gops")


def external_storage(file: h5py.File) -> None:
    shape, dtype = file["motion"].shape, file["motion"].dtype
    del file["motion"]
    file.create_dataset("motion", shape, dtype, external=[(OTHER, 0, h5py.h5f.UNLIMITED)])


def virtual_data_set(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(file["motion"].shape, file["motion"].dtype)
    layout[:] = h5py.VirtualSource(OTHER, "motion", file["motion"].shape)
    del file["motion"]
    file.create_virtual_dataset("motion", layout)


def missing(file: h5py.File) -> None:
    del file["residual/chroma"]


def group_in_its_place(file: h5py.File) -> None:
    del file["motion"]
    file.create_group("motion")


REFUSED_BY_PLACE = [
    external_link,
    external_link_to_a_group,
    soft_link,
    linked_table,
    external_storage,
    virtual_data_set,
    missing,
]


def other_filter(file: h5py.File) -> None:
    replace(file, "motion", compression="gzip", chunks=(1, 16, 3, 2, 32))


def no_filter(file: h5py.File) -> None:
    replace(file, "motion", chunks=(1, 16, 3, 2, 32))


def other_dtype(file: h5py.File) -> None:
    replace(file, "motion", dtype="<i4", chunks=(1, 16, 3, 2, 32))


def compressed_table(file: h5py.File) -> None:
    replace(file, "gops", compression="gzip")


def other_table(file: h5py.File) -> None:
    replace(file, "gops", dtype=[("video", "<u4")], data=np.zeros(3, [("video", "<u4")]))


def table_without_bytes(file: h5py.File) -> None:
    """A shape alone, that would fill terabytes with zeros."""
    dtype = file["videos"].dtype
    del file["videos"]
    file.create_dataset("videos", (1 << 38,), dtype)


def text_in_the_heap(file: h5py.File) -> None:
    file.attrs["settings"] = file.attrs["settings"].decode()


def settings_that_cannot_be(file: h5py.File) -> None:
    file.attrs["settings"] = np.bytes_(file.attrs["settings"].replace(b'"subpel"', b'"magic"'))


def settings_that_are_no_json(file: h5py.File) -> None:
    file.attrs["settings"] = np.bytes_(b"{")


def settings_that_are_no_object(file: h5py.File) -> None:
    file.attrs["settings"] = np.bytes_(b"7")


def gops_out_of_order(file: h5py.File) -> None:
    file["gops"][()] = file["gops"][()][[1, 0, 2]]


def more_gops_counted_than_listed(file: h5py.File) -> None:
    rows = file["videos"][()]
    rows["num_gops"][1] = 1 << 31
    file["videos"][()] = rows


def id_that_is_no_text(file: h5py.File) -> None:
    rows = file["videos"][()]
    rows["id"][0] = b"\xff"
    file["videos"][()] = rows


REFUSED_BY_CONTENT = [
    group_in_its_place,
    other_filter,
    no_filter,
    other_dtype,
    compressed_table,
    other_table,
    table_without_bytes,
    text_in_the_heap,
    settings_that_cannot_be,
    settings_that_are_no_json,
    settings_that_are_no_object,
    gops_out_of_order,
    more_gops_counted_than_listed,
    id_that_is_no_text,
]


def replace(file: h5py.File, name: str, **how: object) -> None:
    values = file[name][()]
    del file[name]
    file.create_dataset(name, **{"data": values, "dtype": values.dtype, **how})


@pytest.mark.parametrize("spoil", REFUSED_BY_PLACE)
def test_data_sets_elsewhere_are_refused(shard: Path, spoil: Callable[[h5py.File], None]) -> None:
    with h5py.File(shard, "r+", libver=("v110", "v110")) as file:
        spoil(file)
    with pytest.raises(StoreError, match=r"expected (it inside|a data set of the file itself)"):
        read_shard_file(shard)


@pytest.mark.parametrize("spoil", REFUSED_BY_CONTENT)
def test_content_that_we_would_not_write_is_refused(shard: Path, spoil: Callable[[h5py.File], None]) -> None:
    with h5py.File(shard, "r+", libver=("v110", "v110")) as file:
        spoil(file)
    with pytest.raises(StoreError, match=r"shard\.h5|settings of the store"):
        read_shard_file(shard)


def test_a_good_shard_is_read(shard: Path) -> None:
    found = read_shard_file(shard)
    assert found.settings == SETTINGS
    assert found.ids == ["a", "b"]
    assert found.places.shape == (3, 5, 2)


def test_a_chunk_that_was_never_written_is_no_gop_of_zeros(shard: Path) -> None:
    with h5py.File(shard, "r+", libver=("v110", "v110")) as file:
        kept = [file["motion"].id.read_direct_chunk((row, 0, 0, 0, 0))[1] for row in range(2)]
        filters = hdf5plugin.Zstd()
        replace(file, "motion", data=None, shape=(3, 16, 3, 2, 32), chunks=(1, 16, 3, 2, 32), **filters)
        for row, chunk in enumerate(kept):
            file["motion"].id.write_direct_chunk((row, 0, 0, 0, 0), chunk)
    with pytest.raises(StoreError, match="GOP row 2 has a chunk that was never written"):
        require_adjacent(shard, read_shard_file(shard).places)


def test_chunks_that_do_not_touch_are_found(shard: Path) -> None:
    places = read_shard_file(shard).places
    places[1, 3:, 0] += 1
    with pytest.raises(StoreError, match="chunks of GOP row 1 do not touch"):
        require_adjacent(shard, places)


def test_a_higher_version_is_refused_with_what_to_do(shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(StoreError, match="format version 2, this reader knows 1; update mfcd"):
        read_shard_file(shard)


def test_unknown_settings_attributes_and_data_sets_are_ignored(shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        file.attrs["settings"] = np.bytes_(file.attrs["settings"].replace(b"{", b'{"new": 1, ', 1))
        file.attrs["new"] = 1
        file["new"] = [1, 2, 3]
    assert read_shard_file(shard).settings == SETTINGS


def test_other_hdf5_files_and_other_files_are_refused(tmp_path: Path) -> None:
    h5py.File(tmp_path / "theirs.h5", "w").close()
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(StoreError, match="not a shard of mfcd-store"):
        read_shard_file(tmp_path / "theirs.h5")
    for name in ("text.h5", "missing.h5"):
        with pytest.raises(StoreError, match="not a readable shard"):
            read_shard_file(tmp_path / name)
