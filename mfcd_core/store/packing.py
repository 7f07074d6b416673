"""How the values of a GOP lie in a chunk: differences, digits of four rows, order of axes (docs/store-format.md)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mfcd_core.clip import Array

QUAD = 4  # rows that share a byte; digits of base 4 in a byte


@dataclass(frozen=True)
class StoredArray:
    """One data set of a shard: what a GOP of it is, and how the GOP's chunk holds that.

    name, axes, shape, dtype: the plain values of the equations, as they are traced.
    read_dtype: `dtype`, or its low byte where that says everything (motion modulo 256).
    difference: axes along which, one after the other, a value is stored as its difference to the one before.
    digits: whether a chunk holds digits of base 4, those of four rows in a byte; otherwise it holds values.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read_dtype: np.dtype[Any]
    difference: tuple[str, ...]
    digits: bool = True

    @property
    def row_axis(self) -> int:
        """Where rows are among the axes of plain values."""
        return self.axes.index("row")

    @property
    def modulo(self) -> int:
        """What values, and their differences, are modulo of."""
        return 1 << 8 * self.read_dtype.itemsize

    @property
    def rows_first(self) -> bool:
        """Whether a chunk holds differences as they are, from row to row: their rows are outermost."""
        return bool(self.difference) and not self.digits

    @property
    def chunk_axes(self) -> tuple[str, ...]:
        """Axes of a chunk: (digit, ..., quad, ...) with quads of rows, (row, ...), or those of plain values."""
        before, after = self.axes[: self.row_axis], self.axes[self.row_axis + 1 :]
        if self.digits:
            return ("digit", *before, "quad", *after)
        return ("row", *before, *after) if self.rows_first else self.axes

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of a chunk, by `chunk_axes`."""
        size = dict(zip(self.axes, self.shape, strict=True))
        size |= {"digit": QUAD * self.read_dtype.itemsize, "quad": -(-size["row"] // QUAD)}
        return tuple(size[axis] for axis in self.chunk_axes)

    @property
    def chunk_dtype(self) -> np.dtype[Any]:
        """Type of a chunk's items."""
        return np.dtype("u1") if self.digits else self.read_dtype

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """`shape` with its rows filled up to whole quads."""
        row = self.row_axis
        return (*self.shape[:row], -(-self.shape[row] // QUAD) * QUAD, *self.shape[row + 1 :])

    def empty(self, *lead: int) -> NDArray[Any]:
        """Memory for `lead` GOPs as a reader fills it: chunks of digits, or plain values in the order of chunks."""
        chunks = np.empty((*lead, *self.chunk_shape), self.chunk_dtype)
        return np.moveaxis(chunks, len(lead), len(lead) + self.row_axis) if self.rows_first else chunks

    def as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """What `empty` gave for one GOP, in the order of chunks."""
        return np.moveaxis(values, self.row_axis, 0) if self.rows_first else values


def unpack(array: StoredArray, chunks: Array, out: Array) -> Array:
    """Plain values of chunks of digits, (N, *shape), NumPy or torch alike, from (N, *chunk_shape).

    `out` is memory for it, (N, *whole_shape), of signed integers as wide as the values.
    """
    size = array.read_dtype.itemsize
    digits = chunks.reshape(-1, size, QUAD, *array.chunk_shape[1:])
    for i, rows in enumerate(_swap_digits([digits[:, :, k] for k in range(QUAD)])):
        place = out[(slice(None), *_rows(array, slice(i, None, QUAD)))]
        place[...] = rows[:, -1]
        for byte in reversed(range(size - 1)):
            place <<= 8
            place |= rows[:, byte]
    values = _unfold(out, array.modulo // 2 - 1)
    for axis in array.difference:
        if axis == "frame":
            add_up(values.swapaxes(0, 1))
        else:
            values = values.cumsum(1 + array.axes.index(axis), dtype=values.dtype)
    return values[(slice(None), *_rows(array, slice(array.shape[array.row_axis])))]


def unpack_gop(array: StoredArray, chunk: NDArray[Any]) -> NDArray[Any]:
    """Plain values of one GOP, `shape` of `read_dtype`, from what a reader filled."""
    if not array.digits:
        return chunk  # plain already
    out = np.empty((1, *array.whole_shape), f"<i{array.read_dtype.itemsize}")
    values: NDArray[Any] = unpack(array, chunk[None], out)[0].view(array.read_dtype)
    return values


def add_up(items: Array) -> None:
    """Undo differences along the first axis, in place."""
    for before, item in pairwise(items):
        item += before  # noqa: PLW2901 - a view


def _rows(array: StoredArray, rows: slice) -> tuple[slice, ...]:
    return (*(slice(None) for _ in range(array.row_axis)), rows)


def _swap_digits(planes: Sequence[Array]) -> list[Array]:
    """Four arrays of bytes with digit k of byte i as digit i of byte k: in pairs of digits first, then single ones."""
    a, b, c, d = planes
    a, c = _exchange(a, c, 4, 0x0F)
    b, d = _exchange(b, d, 4, 0x0F)
    return [*_exchange(a, b, 2, 0x33), *_exchange(c, d, 2, 0x33)]


def _exchange(low: Array, high: Array, num_bits: int, mask: int) -> tuple[Array, Array]:
    """The upper bits of each group in `low` for the lower ones in `high`, as new arrays; `mask` has the lower ones."""
    changed = low >> num_bits
    changed ^= high
    changed &= mask
    new_high = high ^ changed
    changed <<= num_bits
    changed ^= low
    return changed, new_high


def _unfold(values: Array, mask: int) -> Array:
    """(z >> 1) ^ -(z & 1) of unsigned z in signed integers, in place; `mask` has all bits but the sign's."""
    sign = values & 1
    sign *= -1
    values >>= 1
    values &= mask
    values ^= sign
    return values
