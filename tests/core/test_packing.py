"""Differences and digits are undone exactly, whatever the shape, and lie where the document says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store.compression import COMPRESSIONS
from mfcd_core.store.packer import Packer
from mfcd_core.store.packing import StoredArray, add_up, unpack_gop
from mfcd_core.store.settings import StoreSettings


@st.composite
def all_settings(draw: st.DrawFn) -> StoreSettings:
    return StoreSettings(
        width_px=2 * draw(st.one_of(st.integers(1, 12), st.integers(125, 135))),
        height_px=2 * draw(st.integers(1, 12)),
        gop_size=draw(st.integers(2, 6)),
        pixel_format=draw(st.sampled_from(list(PIXEL_FORMATS))),
        residual_step=draw(st.sampled_from([1, 2, 4])),
        compression=draw(st.sampled_from(COMPRESSIONS)),
    )


@given(all_settings(), st.integers(0, 2**32 - 1), st.sampled_from([1, 8, 1 << 15]))
def test_any_values_come_back(settings: StoreSettings, seed: int, spread: int) -> None:
    """Over the whole range of the type, too: what no video has is stored all the same."""
    random = np.random.default_rng(seed)
    for array in settings.stored_arrays():
        values = (random.normal(0, spread, array.shape).astype(int) % array.modulo).astype(array.read_dtype)
        packer = Packer(array)
        packer(values[::-1])  # what it held before does not matter
        chunk = packer(values)
        assert (chunk.shape, chunk.dtype, chunk.flags.c_contiguous) == (array.chunk_shape, array.chunk_dtype, True)
        before = chunk.copy()
        found = unpack_gop(array, chunk)
        assert found.dtype == values.dtype
        assert np.array_equal(found, values)
        assert np.array_equal(chunk, before)


def stored(shape: tuple[int, int, int], dtype: str, difference: tuple[str, ...] = ()) -> StoredArray:
    return StoredArray("x", ("frame", "row", "column"), shape, np.dtype(dtype), np.dtype(dtype), difference)


def test_a_byte_holds_one_digit_of_four_rows() -> None:
    """-3 folds to 5 = 11 in base 4, 100 to 200 = 3020, 0 to 0, 1 to 2: the first row in the lowest bits."""
    values = np.array([[[-3], [100], [0], [1]]], np.int8)
    chunk = Packer(stored((1, 4, 1), "i1"))(values)
    assert chunk.ravel().tolist() == [1 + (0 << 2) + (0 << 4) + (2 << 6), 1 + (2 << 2), 0 << 2, 3 << 2]


def test_two_bytes_have_eight_digits_the_lowest_first() -> None:
    """-32768 folds to 65535: all digits 3; 256 to 512, the sixth digit is 2 and -1 to 1."""
    values = np.array([[[-32768], [256], [-1], [0]]], np.int16)
    chunk = Packer(stored((1, 4, 1), "i2"))(values)
    assert chunk.ravel().tolist() == [3 + (1 << 4), 3, 3, 3, 3 + (2 << 2), 3, 3, 3]


def test_rows_beyond_the_last_are_zeros() -> None:
    chunk = Packer(stored((1, 6, 1), "i1"))(np.ones((1, 6, 1), np.int8))
    assert chunk.shape == (4, 1, 2, 1)
    assert chunk[0].ravel().tolist() == [0b10101010, 0b1010]


def test_what_does_not_change_over_an_axis_takes_no_digits_there() -> None:
    values = np.full((5, 8, 3), -7, np.int8)
    chunk = Packer(stored((5, 8, 3), "i1", ("frame",)))(values)
    assert chunk[:, 0].any()
    assert not chunk[:, 1:].any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sums_undo_differences_modulo_256(axis: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    differences = np.diff(values, axis=axis, prepend=np.uint8(0))
    add_up(np.moveaxis(differences, axis, 0))
    assert np.array_equal(differences, values)
