"""From the chunks of GOPs to plain values, fast enough for a loader; `packing` says the same in NumPy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import is_cached, jit, load_numba
from mfcd_core.store.digits import swap_digits
from mfcd_core.store.packing import QUAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from mfcd_core.store.packing import StoredArray
    from mfcd_core.store.reader import Store
    from mfcd_core.store.settings import StoreSettings

COMPILE = """
import json, sys
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.unpacker import load_kernels
load_kernels(StoreSettings.from_dict(json.loads(sys.argv[1])).stored_arrays())
"""
load_numba()


class PlaneReader:
    """Reads GOPs in plain values into memory of the caller; safe under threads, fork and spawn.

    arrays: what is read of a GOP: of `StoreSettings.stored_arrays` I-frames, residuals unless left out, and motion.
    """

    def __init__(self, store: Store, *, with_motion: bool, with_residual: bool = True) -> None:
        self._store = store
        self._kinds = {"iframe": True, "residual": with_residual, "motion": with_motion}
        self.arrays = [array for array in store.settings.stored_arrays() if self._kinds[array.kind]]
        self._names = [array.name for array in self.arrays]
        self._local = threading.local()
        if any(array.digits for array in self.arrays) and not is_cached(_undo_digits):
            _compile_elsewhere(store.settings)
        load_kernels(self.arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return _build_reader, (self._store, self._kinds["motion"], self._kinds["residual"])

    def announce(self, row: int) -> None:
        """Have the system fetch row `row` of gops.npy in the background."""
        self._store.announce(row, self._names)

    def stored_bytes(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Sizes of rows of gops.npy as stored."""
        return self._store.stored_bytes(rows, self._names)

    def fetch(self, row: int, room: memoryview) -> memoryview:
        """Read row `row` of gops.npy, as stored, into `room` of `stored_bytes`, for `read_into`. Raises StoreError."""
        return self._store.fetch(row, self._names, room)

    def read_into(self, row: int, planes: Mapping[str, NDArray[Any]], stored: memoryview | None = None) -> None:
        """Read row `row` of gops.npy into `planes`, by name `shape` of `read_dtype`, C-contiguous.

        stored: its bytes, where `fetch` has read them. Releases the GIL. Raises as `Store.iter_chunks` does.
        """
        unpackers = self._unpackers()
        chunks = {name: unpackers[name].chunk if name in unpackers else planes[name] for name in self._names}
        for name in self._store.iter_chunks(row, chunks, stored):
            if name in unpackers:
                unpackers[name].unpack(planes[name])

    def _unpackers(self) -> dict[str, Unpacker]:
        """This thread's own, of what is packed; their chunks share memory: each is unpacked before the next is read."""
        if not hasattr(self._local, "unpackers"):
            packed = [array for array in self.arrays if not array.is_plain]
            memory = np.empty(max((array.chunk_bytes for array in packed), default=0), np.uint8)
            self._local.unpackers = {array.name: Unpacker(array, memory) for array in packed}
        found: dict[str, Unpacker] = self._local.unpackers
        return found


def load_kernels(arrays: Iterable[StoredArray]) -> None:
    """Compile what unpacks `arrays`, or load it from the cache: processes that are forked afterwards share it."""
    for array in arrays:
        if not array.is_plain:
            small = replace(array, shape=tuple(min(size, QUAD) for size in array.shape))
            Unpacker(small, np.zeros(small.chunk_bytes, np.uint8)).unpack(small.empty())


def _compile_elsewhere(settings: StoreSettings) -> None:
    """Fill the cache in a process that ends: to compile takes 16 MB that no process gives back.

    Where that fails, kernels are compiled here.
    """
    command = [sys.executable, "-P", "-c", COMPILE, json.dumps(settings.to_dict())]
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603, a list, no shell


def _build_reader(store: Store, with_motion: bool, with_residual: bool) -> PlaneReader:  # noqa: FBT001 - for pickle
    return PlaneReader(store, with_motion=with_motion, with_residual=with_residual)


class Unpacker:
    """Unpacks one GOP of a data set after the other, in memory that it keeps.

    chunk: to be filled with a chunk, `chunk_shape`; in `memory`, of at least `chunk_bytes` bytes.
    """

    def __init__(self, array: StoredArray, memory: NDArray[np.uint8]) -> None:
        self.chunk = memory[: array.chunk_bytes].view(array.chunk_dtype).reshape(array.chunk_shape)
        self._array = array
        self._height, self._num_sheets = array.shape[array.row_axis], int(np.prod(array.shape[: array.row_axis]))
        self._size = array.read_dtype.itemsize
        self._unsigned = np.dtype(f"<u{self._size}")
        row_size = int(np.prod(array.shape[array.row_axis + 1 :]))
        zeros = np.zeros(row_size, self._unsigned)
        self._row = np.empty(row_size, self._unsigned)
        num_quads = -(-self._height // QUAD)
        joined = np.empty((self._size, QUAD, num_quads * row_size), np.uint8)
        folded = joined[0] if self._size == 1 else np.empty(joined.shape[1:], self._unsigned)
        self._memory = (joined, folded.reshape(QUAD, num_quads, row_size), zeros)
        self._sheets_back = self._num_sheets // array.shape[0] if "frame" in array.difference else self._num_sheets
        self._are_rows_summed = int("row" in array.difference)
        has_columns = "column" in array.difference
        self._num_channels = int(np.prod(array.shape[array.axes.index("column") + 1 :])) if has_columns else 0

    def unpack(self, out: NDArray[Any]) -> None:
        """Write the plain values of `chunk` into `out`, `shape` of `read_dtype`, C-contiguous."""
        values = out.view(self._unsigned).reshape(self._num_sheets, self._height, -1)
        if not self._array.digits:
            chunk = self.chunk.view(self._unsigned).reshape(self._height, self._num_sheets, -1)
            _sum_rows(chunk, self._row, values)
            return
        digits = self.chunk.reshape(self._size, QUAD, self._num_sheets, -1)
        _undo_digits(digits, self._memory, self._sheets_back, self._are_rows_summed, self._num_channels, values)


@jit
def _undo_digits(
    digits: NDArray[np.uint8],
    memory: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    sheets_back: int,
    are_rows_summed: int,
    num_channels: int,
    out: NDArray[Any],
) -> None:
    """All in one: the GIL, which another thread may hold, is taken back once. num_channels: 0 for no columns."""
    joined, folded, zeros = memory
    _join_digits(digits, joined, folded, zeros, sheets_back, out)
    if are_rows_summed:
        _sum_rows_here(out)
    if num_channels > 0:
        _sum_columns(out, num_channels)


@jit
def _join_digits(
    digits: NDArray[np.uint8],
    joined: NDArray[np.uint8],
    folded: NDArray[Any],
    zeros: NDArray[Any],
    sheets_back: int,
    out: NDArray[Any],
) -> None:
    """Values (sheets, rows, m) from digits (bytes, 4, sheets, quads * m), each added to that of so many sheets before.

    joined: (bytes, 4, quads * m), the bytes of one sheet; folded: (4, quads, m), the same as unsigned integers.
    """
    for sheet in range(digits.shape[2]):
        for byte in range(digits.shape[0]):
            swap_digits(digits[byte, :, sheet], joined[byte])
        if digits.shape[0] == 2:
            _join_bytes(joined, folded.reshape(QUAD, -1))
        for y in range(out.shape[1]):
            row, z = out[sheet, y], folded[y % QUAD, y // QUAD]
            before = out[sheet - sheets_back, y] if sheet >= sheets_back else zeros
            for x in range(np.uint64(row.size)):  # here: a function of its own is not vectorised
                row[x] = ((z[x] >> 1) ^ -(z[x] & 1)) + before[x]  # modulo what the type holds


@jit
def _join_bytes(joined: NDArray[np.uint8], out: NDArray[Any]) -> None:
    for i in range(QUAD):
        for x in range(np.uint64(out.shape[1])):
            out[i, x] = np.uint16(joined[0, i, x]) | (np.uint16(joined[1, i, x]) << np.uint16(8))


@jit
def _sum_rows(rows: NDArray[Any], total: NDArray[Any], out: NDArray[Any]) -> None:
    """Running sums down (rows, sheets, m), as (sheets, rows, m); total: (m,), for the sums."""
    for sheet in range(rows.shape[1]):
        total[:] = 0
        for y in range(rows.shape[0]):
            row, summed = rows[y, sheet], out[sheet, y]
            for x in range(np.uint64(summed.size)):
                added = row[x] + total[x]
                total[x] = added
                summed[x] = added


@jit
def _sum_rows_here(values: NDArray[Any]) -> None:
    """Running sums down each sheet of (sheets, rows, m), in place."""
    for sheet in range(values.shape[0]):
        for y in range(1, values.shape[1]):
            row, before = values[sheet, y], values[sheet, y - 1]
            for x in range(np.uint64(row.size)):
                row[x] += before[x]


@jit
def _sum_columns(values: NDArray[Any], num_channels: int) -> None:
    """Running sums along each row of (sheets, rows, columns * channels), in place."""
    for sheet in range(values.shape[0]):
        for y in range(values.shape[1]):
            row = values[sheet, y]
            for channel in range(num_channels):
                total = row[channel] - row[channel]
                for x in range(np.uint64(channel), np.uint64(row.size), np.uint64(num_channels)):
                    total += row[x]
                    row[x] = total
