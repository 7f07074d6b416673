"""How the values of a GOP lie in a chunk: differences, digits of four rows, order of axes (docs/store-format.md)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUAD = 4  # rows that share a byte; digits of base 4 in a byte
SWAPS = ((slice(None, 2), slice(2, None), 4, 0x0F), (slice(0, None, 2), slice(1, None, 2), 2, 0x33))
LANE_ITEMS = 256  # sums of so many bytes fit the 16 bits of a lane


@dataclass(frozen=True)
class StoredArray:
    """One data set of a shard: what a GOP of it is, and how the GOP's chunk holds that.

    name, axes, shape, dtype: the plain values of the equations, as they are traced.
    read_dtype: what a reader fills; `dtype`, or its low byte where that says everything (motion modulo 256).
    difference: axes along which, one after the other, a value is stored as its difference to the one before.
    digits: whether a chunk holds digits of base 4, those of four rows in a byte; otherwise values, rows outermost.
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
        """What the read values, and their differences, are modulo of."""
        return 1 << 8 * self.read_dtype.itemsize

    @property
    def chunk_axes(self) -> tuple[str, ...]:
        """Axes of a chunk: (digit, ..., quad, ...) with quads of rows, or (row, ...)."""
        before, after = self.axes[: self.row_axis], self.axes[self.row_axis + 1 :]
        return ("digit", *before, "quad", *after) if self.digits else ("row", *before, *after)

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
        """Size of a chunk before compression."""
        return int(np.prod(self.chunk_shape)) * self.chunk_dtype.itemsize

    def empty(self, *lead: int) -> NDArray[Any]:
        """Memory for `lead` GOPs as a reader fills it: (*lead, *shape) of `read_dtype`, items in the chunk's order."""
        if self.digits:
            return np.empty((*lead, *self.shape), self.read_dtype)
        return np.moveaxis(np.empty((*lead, *self.chunk_shape), self.chunk_dtype), len(lead), len(lead) + self.row_axis)


def pack(array: StoredArray, values: NDArray[Any]) -> NDArray[Any]:
    """The chunk of one GOP, C-contiguous, from its plain values."""
    values = values.astype(array.read_dtype, copy=False)
    for axis in array.difference:
        values = _differences(values, array.axes.index(axis))
    if not array.digits:
        return np.ascontiguousarray(np.moveaxis(values, array.row_axis, 0))
    bits = 8 * values.dtype.itemsize
    signed = values.view(f"<i{values.dtype.itemsize}")
    quads = _split_rows((signed << 1) ^ (signed >> bits - 1), array)
    in_bytes = np.moveaxis(quads[..., None].view(np.uint8), -1, 0)
    digits = np.ascontiguousarray(in_bytes).reshape(quads.dtype.itemsize, QUAD, -1)
    for planes in digits:
        _swap_digits(planes)
    return digits.reshape(array.chunk_shape)


def unpack(array: StoredArray, chunk: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """Write the values of a chunk of digits, given as flat bytes that are overwritten, into `out`, C-contiguous."""
    size = array.read_dtype.itemsize
    digits = chunk.reshape(size, QUAD, -1)
    for planes in digits:
        _swap_digits(planes)
    folded = digits[0] if size == 1 else np.ascontiguousarray(np.moveaxis(digits, 0, -1)).view(f"<u{size}")[..., 0]
    sign = np.bitwise_and(folded, 1)
    np.negative(sign, out=sign)
    np.right_shift(folded, 1, out=folded)
    np.bitwise_xor(folded, sign, out=folded)
    quads = folded.reshape(QUAD, *array.chunk_shape[1:])
    for axis in reversed(array.difference):
        SUMS[axis](quads, array)
    rows = np.moveaxis(out.view(folded.dtype), array.row_axis, 0)
    for i in range(QUAD):
        rows[i::QUAD] = np.moveaxis(quads[i], array.row_axis, 0)[: len(rows[i::QUAD])]


def sum_up(items: NDArray[Any]) -> None:
    """Undo differences along the first axis, in place."""
    for before, item in pairwise(items):
        np.add(before, item, out=item)


def _differences(values: NDArray[Any], axis: int) -> NDArray[Any]:
    found = values.copy()
    here, before = np.moveaxis(values, axis, 0)[1:], np.moveaxis(values, axis, 0)[:-1]
    np.subtract(here, before, out=np.moveaxis(found, axis, 0)[1:])
    return found


def _split_rows(values: NDArray[Any], array: StoredArray) -> NDArray[Any]:
    """Rows 4g + i as (i, ..., g, ...); beyond the last row zeros."""
    quads = np.zeros((QUAD, *array.chunk_shape[1:]), values.dtype)
    rows = np.moveaxis(values, array.row_axis, 0)
    for i in range(QUAD):
        np.moveaxis(quads[i], array.row_axis, 0)[: len(rows[i::QUAD])] = rows[i::QUAD]
    return quads


def _swap_digits(planes: NDArray[np.uint8]) -> None:
    """Transpose in place, for every byte of (4, n), digit k of plane i with digit i of plane k."""
    wide = planes.view(np.uint64) if planes.shape[1] % 8 == 0 else planes
    word = wide.dtype.type
    spare = np.empty((2, wide.shape[1]), word)
    for low, high, shift, mask in SWAPS:
        np.right_shift(wide[low], word(shift), out=spare)
        np.bitwise_xor(spare, wide[high], out=spare)
        np.bitwise_and(spare, word(int.from_bytes(bytes([mask] * spare.itemsize))), out=spare)
        np.bitwise_xor(wide[high], spare, out=wide[high])
        np.left_shift(spare, word(shift), out=spare)
        np.bitwise_xor(wide[low], spare, out=wide[low])


def _sum_frames(quads: NDArray[Any], _array: StoredArray) -> None:
    sum_up(quads.swapaxes(0, 1))


def _sum_rows(quads: NDArray[Any], array: StoredArray) -> None:
    """Within each quad, then over the last rows of quads, then from those to the rows after them."""
    sum_up(quads)
    by_quad = np.moveaxis(quads, array.row_axis + 1, 1)
    sum_up(by_quad[-1])
    by_quad[:-1, 1:] += by_quad[-1, :-1]


def _sum_columns(quads: NDArray[Any], array: StoredArray) -> None:
    """Running sums of bytes, four rows at once in the lanes of a 64-bit word."""
    lanes = np.empty((*quads.shape[1:], QUAD), np.uint16)
    lanes[...] = np.moveaxis(quads, 0, -1)
    words = np.moveaxis(lanes.view(np.uint64)[..., 0], array.axes.index("column"), 0)
    for start in range(0, len(words), LANE_ITEMS):
        part = words[start : start + LANE_ITEMS]
        if start:
            part[0] += words[start - 1] & np.uint64(0x00FF00FF00FF00FF)
        np.cumsum(part, axis=0, out=part)
    quads[...] = np.moveaxis(lanes, -1, 0)


SUMS = {"frame": _sum_frames, "row": _sum_rows, "column": _sum_columns}
