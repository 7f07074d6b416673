"""From the plain values of GOPs to their chunks (docs/store-format.md); the way back is in `packing`."""

from __future__ import annotations

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
        self._here, self._there = (np.empty(array.shape, array.read_dtype) for _ in range(2))
        self._chunk = np.empty(array.chunk_shape, array.chunk_dtype)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The chunk of one GOP from its plain values, C-contiguous; it lasts until the next call."""
        array = self._array
        np.copyto(self._here, values, casting="unsafe")  # modulo
        for axis in array.difference:
            self._subtract_before(array.axes.index(axis))
        if array.digits:
            num_rows, before = array.shape[array.row_axis], int(np.prod(array.shape[: array.row_axis]))
            folded = self._here.view(f"<i{self._here.itemsize}").reshape(before, num_rows, -1)
            num_digits, num_quads = array.chunk_shape[0], -(-num_rows // QUAD)
            _split_digits(folded, self._chunk.reshape(num_digits, before, num_quads, -1))
        else:
            np.copyto(self._chunk, np.moveaxis(self._here, array.row_axis, 0))
        return self._chunk

    def _subtract_before(self, axis: int) -> None:
        here, there = np.moveaxis(self._here, axis, 0), np.moveaxis(self._there, axis, 0)
        there[0] = here[0]
        np.subtract(here[1:], here[:-1], out=there[1:])
        self._here, self._there = self._there, self._here


@jit
def _split_digits(values: NDArray[Any], digits: NDArray[np.uint8]) -> None:
    """Fold 0, -1, 1, -2 .. of (n, rows, m) to 0, 1, 2, 3 .. and write digit k of rows 4g .. to digits[k, :, g]."""
    sign_bit = np.uint32(2 * digits.shape[0] - 1)
    folded = np.zeros((QUAD, values.shape[2]), np.uint32)
    for n in range(values.shape[0]):
        for g in range(digits.shape[2]):
            for i in range(QUAD):
                if QUAD * g + i < values.shape[1]:
                    for x in range(values.shape[2]):
                        value = np.int32(values[n, QUAD * g + i, x])
                        folded[i, x] = np.uint32((value << np.int32(1)) ^ (value >> sign_bit))
                else:
                    folded[i] = 0
            for k in range(digits.shape[0]):
                out, shift = digits[k, n, g], np.uint32(2 * k)
                for x in range(values.shape[2]):
                    byte = (folded[0, x] >> shift) & np.uint32(3)
                    byte |= ((folded[1, x] >> shift) & np.uint32(3)) << np.uint32(2)
                    byte |= ((folded[2, x] >> shift) & np.uint32(3)) << np.uint32(4)
                    byte |= ((folded[3, x] >> shift) & np.uint32(3)) << np.uint32(6)
                    out[x] = np.uint8(byte)
