"""From the plain values of GOPs to their chunks (docs/store-format.md); the way back is in `packing`."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import jit
from mfcd_core.store.packing import QUAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mfcd_core.store.packing import StoredArray


class Packer:
    """Packs one GOP of a data set after the other, in memory that it keeps."""

    def __init__(self, array: StoredArray) -> None:
        self._array = array
        self._before, self._num_rows = prod(array.shape[: array.row_axis]), array.shape[array.row_axis]
        within = [axis for axis in array.difference if axis != "frame"] if array.digits else []
        self._within = [(array.axes.index(axis), np.empty(array.shape, array.read_dtype)) for axis in within]
        self._a_frame = prod(array.shape[1 : array.row_axis]) if "frame" in array.difference else 0
        self._folded = np.empty((QUAD, prod(array.shape[array.row_axis + 1 :])), f"u{array.read_dtype.itemsize}")
        self._signed = np.empty(self._folded.size, f"i{array.read_dtype.itemsize}")
        self._chunk = np.empty(array.chunk_shape, array.chunk_dtype)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The chunk of one GOP from its plain values, C-contiguous; it lasts until the next call."""
        array, chunk, planes = self._array, self._chunk, (self._before, self._num_rows, -1)
        values = np.ascontiguousarray(values)
        if array.digits:
            values = self._subtract_within(values).view(self._signed.dtype)
            digits = chunk.reshape(len(chunk), self._before, -1, self._folded.shape[1])
            _split_digits(values.reshape(planes), self._a_frame, self._signed, self._folded, digits)
        elif array.rows_first:
            _stack_differences(values.reshape(planes), chunk.reshape(self._num_rows, self._before, -1))
        else:
            np.copyto(chunk, values, casting="unsafe")  # modulo
        return chunk

    def _subtract_within(self, values: NDArray[Any]) -> NDArray[Any]:
        """Differences along the axes of one frame."""
        for axis, out in self._within:
            lines = (prod(values.shape[:axis]), prod(values.shape[axis:]))
            _subtract_before(values.reshape(lines), prod(values.shape[axis + 1 :]), out.reshape(lines))
            values = out
        return values


@jit
def _subtract_before(lines: NDArray[Any], lag: int, out: NDArray[Any]) -> None:
    """Each value of a line minus the one `lag` places before it; the first `lag` stay."""
    behind = np.uint64(lag)  # unsigned: no test for negative indices
    for n in range(lines.shape[0]):
        line, differences = lines[n], out[n]
        for x in range(behind):
            differences[x] = line[x]
        for x in range(behind, np.uint64(line.size)):
            differences[x] = line[x] - line[x - behind]


@jit
def _stack_differences(values: NDArray[Any], chunk: NDArray[Any]) -> None:
    """Rows of (n, rows, m), each minus the one above it, as (rows, n, m), which may have a narrower type."""
    for n in range(values.shape[0]):
        for x in range(np.uint64(values.shape[2])):
            chunk[0, n, x] = values[n, 0, x]
    for y in range(1, values.shape[1]):
        for n in range(values.shape[0]):
            row, above, out = values[n, y], values[n, y - 1], chunk[y, n]
            for x in range(np.uint64(row.size)):
                out[x] = row[x] - above[x]


@jit
def _split_digits(
    values: NDArray[Any], a_frame: int, signed: NDArray[Any], folded: NDArray[Any], digits: NDArray[np.uint8]
) -> None:
    """Fold 0, -1, 1, -2 .. of (n, rows, m) to 0, 1, 2, 3 .. and write digit k of rows 4g .. to digits[k, :, g].

    What is folded are differences to the plane `a_frame` before, or where that is 0 the values. `signed` and `folded`
    are memory for four rows, flat, and unsigned. Few arrays in one loop, and shifts by what is known when it is
    compiled: only then are loops vectorised.
    """
    three, two, four, six = np.uint8(3), np.uint8(2), np.uint8(4), np.uint8(6)
    four_rows = folded.reshape(-1)
    for n in range(values.shape[0]):
        for g in range(digits.shape[2]):
            rows = values[n, QUAD * g : QUAD * g + QUAD].reshape(-1)
            if 0 < a_frame <= n:
                before = values[n - a_frame, QUAD * g : QUAD * g + QUAD].reshape(-1)
                for x in range(np.uint64(rows.size)):
                    signed[x] = rows[x] - before[x]
                rows = signed[: rows.size]
            for x in range(np.uint64(rows.size)):
                four_rows[x] = (rows[x] << 1) ^ -(rows[x] < 0)
            four_rows[rows.size :] = 0
            for k in range(digits.shape[0]):
                out = digits[k, n, g]
                for x in range(np.uint64(out.size)):
                    pair = (folded[0, x] & three) | ((folded[1, x] & three) << two)
                    out[x] = np.uint8(pair | ((folded[2, x] & three) << four) | ((folded[3, x] & three) << six))
                for x in range(np.uint64(four_rows.size)):
                    four_rows[x] >>= two
