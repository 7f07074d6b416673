"""videos.npz: mapped columns are what NumPy itself reads, and ids one by one are all of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mfcd_core.store.videos import Videos, map_columns

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES = st.sampled_from([np.dtype(name) for name in ("u1", "i1", "<i4", "<i8")])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=6))
NAMES = st.text("abz/ _ü", min_size=1, max_size=9)


@given(st.dictionaries(NAMES, ARRAYS, max_size=5))
def test_mapped_columns_are_what_numpy_reads(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, NDArray[Any]]
) -> None:
    path = tmp_path_factory.mktemp("npz") / "columns.npz"
    np.savez(path, allow_pickle=False, **columns)
    mapped = map_columns(path)
    with np.load(path) as read:
        assert sorted(mapped) == sorted(read) == sorted(columns)
        for name, array in mapped.items():
            assert array.dtype == read[name].dtype
            assert np.array_equal(array, read[name])
            assert not array.flags.writeable


def test_mapped_columns_outlive_their_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", column=np.arange(5000))
    mapped = map_columns(tmp_path / "a.npz")
    (tmp_path / "a.npz").unlink()
    assert mapped["column"].sum() == 5000 * 4999 // 2


def test_what_cannot_be_mapped_is_said(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "packed.npz", a=np.zeros(9))
    np.savez(tmp_path / "objects.npz", a=np.array([print], object))
    for name, what in (("packed", "is compressed"), ("objects", "holds object: expected numbers")):
        with pytest.raises(ValueError, match=rf"^a\.npy {what}"):
            map_columns(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("seed", range(4))
def test_damage_that_no_checksum_noticed_is_an_error_of_the_file(tmp_path: Path, seed: int) -> None:
    np.savez(tmp_path / "a.npz", ids=np.arange(7, dtype=np.uint8), labels=np.arange(4))
    data, random = (tmp_path / "a.npz").read_bytes(), np.random.default_rng(seed)
    for _ in range(150):
        damaged = bytearray(data[: random.integers(len(data) + 1)] if random.random() < 0.3 else data)
        for place in random.integers(len(data), size=random.integers(1, 4)):
            damaged[place : place + 1] = random.bytes(1)
        (tmp_path / "a.npz").write_bytes(damaged)
        with suppress(OSError, ValueError):
            map_columns(tmp_path / "a.npz")


@given(st.lists(st.text(st.characters(codec="utf-8")), unique=True))
def test_ids_one_by_one_are_all_of_them(ids: list[str]) -> None:
    ones = np.ones(len(ids), np.int64)
    videos = Videos.collect(sorted(ids), ones.astype(np.int32), ones, ones)
    assert len(videos) == len(ids)
    assert videos.ids.tolist() == [videos.id(row) for row in range(len(ids))] == sorted(ids)
