"""From the plain values of GOPs to their chunks (docs/store-format.md); the way back is in `packing`."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import inlined, jit
from mfcd_core.store.digits import swap_digits
from mfcd_core.store.packing import QUAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from mfcd_core.store.packing import StoredArray


class GopPacker:
    """Packs one GOP after the other, frame by frame while a frame's values are in the cache, in memory that it keeps.

    frames: by data set, memory for the plain values of each frame; an I-frame has one.
    chunks: by data set, the chunk of the GOP so far.
    """

    def __init__(self, arrays: Iterable[StoredArray]) -> None:
        self._packers = {array.name: Packer(array) for array in arrays}
        self.frames = {name: packer.frames for name, packer in self._packers.items()}
        self.chunks = {name: packer.chunk for name, packer in self._packers.items()}

    def __call__(self, gop: Mapping[str, NDArray[Any]]) -> None:
        """Pack a whole GOP: arrays of plain values by data set, of their shape and either dtype."""
        for name, packer in self._packers.items():
            packer(gop[name])

    def end_frame(self, name: str, index: int) -> None:
        """Pack `frames[name][index]`; frames come in their order."""
        self._packers[name].end_frame(index)


class Packer:
    """Packs one GOP of a data set after the other.

    frames: memory for the plain values of each frame, of `read_dtype`, or of all where there is no axis of frames;
    frames share it, so each is filled, and then packed, before the next one. chunk: of the GOP so far.
    """

    def __init__(self, array: StoredArray) -> None:
        self._array, self.chunk = array, array.empty_chunk()
        has_frames = array.axes[0] == "frame"
        num_frames, shape = (array.shape[0], array.shape[1:]) if has_frames else (1, array.shape)
        self._by_frame = "frame" in array.difference
        memory = np.empty((1 + self._by_frame, *shape), array.read_dtype)
        if array.is_plain:
            memory = self.chunk.reshape(num_frames, *shape)
        self.frames = [memory[index % len(memory)] for index in range(num_frames)]
        row, size = array.row_axis - has_frames, array.read_dtype.itemsize
        num_sheets, num_rows, row_size = self._sheets = (prod(shape[:row]), shape[row], prod(shape[row + 1 :]))
        self._within = [array.axes.index(axis) - has_frames for axis in array.difference if axis != "frame"]
        self._signed = np.dtype(f"i{size}")
        self._before = self._zeros = np.zeros(self._sheets, self._signed)
        self._folded = np.zeros((size, QUAD, num_sheets, -(-num_rows // QUAD), row_size), np.uint8)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The chunk of one GOP from its plain values, C-contiguous; it lasts until the next call."""
        array = self._array
        if values.shape != array.shape or values.dtype not in (array.dtype, array.read_dtype):
            raise ValueError(f"{array.name} is {values.dtype} {values.shape}: expected {array.dtype} {array.shape}")
        for index, frame in enumerate(self.frames):
            np.copyto(frame, values.reshape(-1, *frame.shape)[index], casting="unsafe")  # modulo
            self.end_frame(index)
        return self.chunk

    def end_frame(self, index: int) -> None:
        """Pack `frames[index]`; frames come in their order."""
        if self._array.digits:
            self._split(index)
        elif self._array.rows_first:
            num_sheets, num_rows, row_size = self._sheets
            chunk = self.chunk.reshape(num_rows, len(self.frames), num_sheets, row_size)
            _stack_differences(self.frames[index].reshape(self._sheets), index, chunk)

    def _split(self, index: int) -> None:
        values = self.frames[index]
        for axis in self._within:
            values = _differences(values, axis)
        values = values.view(self._signed).reshape(self._sheets)
        _fold(values, self._before if self._by_frame and index else self._zeros, self._folded)
        digits = self.chunk.reshape(len(self.chunk), len(self.frames), self._sheets[0], -1)
        _split_digits(self._folded.reshape(-1, QUAD, *digits.shape[2:]), index, digits)
        self._before = values


def _differences(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Each value minus the one before it along `axis`; the first ones stay."""
    lines = values.reshape(prod(values.shape[:axis]), -1)
    out = np.empty_like(lines)
    _subtract_before(lines, prod(values.shape[axis + 1 :]), out)
    return out.reshape(values.shape)


@jit
def _subtract_before(lines: NDArray[Any], lag: int, out: NDArray[Any]) -> None:
    """Each value of a line minus the one `lag` places before it; the first `lag` stay."""
    behind = np.uint64(lag)  # unsigned: no test for negative indices
    for n in range(lines.shape[0]):
        for x in range(behind):
            out[n, x] = lines[n, x]
        for x in range(behind, np.uint64(lines.shape[1])):
            out[n, x] = lines[n, x] - lines[n, x - behind]


@jit
def _stack_differences(values: NDArray[Any], index: int, chunk: NDArray[Any]) -> None:
    """Rows of (n, rows, m), each minus the one above it, to [:, index] of `chunk`, (rows, frames, n, m)."""
    for n in range(values.shape[0]):
        for x in range(np.uint64(values.shape[2])):  # unsigned: no test for negative indices
            chunk[0, index, n, x] = values[n, 0, x]
    for y in range(1, values.shape[1]):
        for n in range(values.shape[0]):
            for x in range(np.uint64(values.shape[2])):
                chunk[y, index, n, x] = values[n, y, x] - values[n, y - 1, x]


@jit
def _fold(values: NDArray[Any], before: NDArray[Any], folded: NDArray[np.uint8]) -> None:
    """Fold 0, -1, 1, -2 .. to 0, 1, 2, 3 ..: differences of signed (n, rows, m) to those `before`.

    Byte b of row 4g + i goes to [b, i, :, g] of `folded`, (bytes, 4, n, quads, m).
    """
    for n in range(values.shape[0]):
        for y in range(values.shape[1]):
            i, g = y % QUAD, y // QUAD
            _fold_row(values[n, y], before[n, y], 0, folded[0, i, n, g])
            if folded.shape[0] == 2:
                _fold_row(values[n, y], before[n, y], 8, folded[1, i, n, g])


@inlined
def _fold_row(values: NDArray[Any], before: NDArray[Any], shift: int, out: NDArray[np.uint8]) -> None:
    signed = values.dtype.type  # every step in it, so that they fill the vectors
    for x in range(np.uint64(out.size)):  # unsigned: no test for negative indices
        difference = signed(values[x] - before[x])
        z = signed(difference + difference) ^ signed(-signed(difference < signed(0)))
        out[x] = z >> signed(shift)


@jit
def _split_digits(folded: NDArray[np.uint8], index: int, digits: NDArray[np.uint8]) -> None:
    """Digit k of byte b of (bytes, 4, n, m) to [4b + k, index] of `digits`, (4 * bytes, frames, n, m)."""
    for byte in range(folded.shape[0]):
        for n in range(folded.shape[2]):
            swap_digits(folded[byte, :, n], digits[QUAD * byte : QUAD * byte + QUAD, index, n])
