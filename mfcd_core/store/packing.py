"""How the values of a GOP lie in a chunk: differences, digits of four rows, order of axes (docs/store-format.md)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    def kind(self) -> str:
        """iframe, residual or motion: the first word of its name."""
        return self.name.partition("/")[0]

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
    def is_plain(self) -> bool:
        """Whether a chunk holds plain values."""
        return not self.difference and not self.digits

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
    def chunk_bytes(self) -> int:
        """Size of a chunk before it is compressed."""
        return int(np.prod(self.chunk_shape)) * self.chunk_dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Size of one GOP in plain values."""
        return int(np.prod(self.shape)) * self.read_dtype.itemsize

    def empty_chunk(self) -> NDArray[Any]:
        """Memory for the chunk of one GOP."""
        return np.empty(self.chunk_shape, self.chunk_dtype)

    def empty(self, *lead: int) -> NDArray[Any]:
        """Memory for plain values of `lead` GOPs, (*lead, *shape) of `read_dtype`."""
        return np.empty((*lead, *self.shape), self.read_dtype)


def unpack_gop(array: StoredArray, chunk: NDArray[Any]) -> NDArray[Any]:
    """Plain values of one GOP, `shape` of `read_dtype`, from its chunk, which is left as it is."""
    if array.is_plain:
        return chunk
    values = _join_digits(array, chunk) if array.digits else np.moveaxis(chunk, 0, array.row_axis).copy()
    for axis in array.difference:
        add_up(np.moveaxis(values, array.axes.index(axis), 0))
    return values.view(array.read_dtype)


def add_up(items: NDArray[Any]) -> None:
    """Undo differences along the first axis, in place."""
    for before, item in pairwise(items):
        item += before  # noqa: PLW2901 - a view


def _join_digits(array: StoredArray, chunk: NDArray[np.uint8]) -> NDArray[Any]:
    """Values of whole quads of rows are joined and unfolded, then cut to the rows that there are."""
    size, row = array.read_dtype.itemsize, array.row_axis
    filled = (*array.shape[:row], -(-array.shape[row] // QUAD) * QUAD, *array.shape[row + 1 :])
    values = np.zeros(filled, f"<i{size}")
    for byte, planes in enumerate(chunk.reshape(size, QUAD, *array.chunk_shape[1:])):
        for i, rows in enumerate(_swap_digits(planes)):
            values[(*_all(row), slice(i, None, QUAD))] |= rows.astype(values.dtype) << 8 * byte
    _unfold(values, array.modulo // 2 - 1)
    return values[(*_all(row), slice(array.shape[row]))]


def _all(num_axes: int) -> tuple[slice, ...]:
    return (slice(None),) * num_axes


def _swap_digits(planes: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Four arrays of bytes with digit k of byte i as digit i of byte k: in pairs of digits first, then single ones."""
    a, b, c, d = planes
    a, c = _exchange(a, c, 4, 0x0F)
    b, d = _exchange(b, d, 4, 0x0F)
    return [*_exchange(a, b, 2, 0x33), *_exchange(c, d, 2, 0x33)]


def _exchange(low: NDArray[Any], high: NDArray[Any], num_bits: int, mask: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The upper bits of each group in `low` for the lower ones in `high`, as new arrays; `mask` has the lower ones."""
    changed = (low >> num_bits ^ high) & mask
    return low ^ changed << num_bits, high ^ changed


def _unfold(values: NDArray[Any], mask: int) -> None:
    """(z >> 1) ^ -(z & 1) of unsigned z in signed integers, in place; `mask` has all bits but the sign's."""
    sign = -(values & 1)
    values >>= 1
    values &= mask
    values ^= sign
