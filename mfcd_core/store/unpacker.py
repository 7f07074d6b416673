"""From the chunks of GOPs to plain values, fast enough for a loader; `packing` says the same in NumPy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import is_cached, load_numba, mark_cached
from mfcd_core.store.packing import QUAD
from mfcd_core.store.unpack_kernels import unpack_chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from mfcd_core.store.packing import StoredArray
    from mfcd_core.store.reader import Store

COMPILE = """
import json, sys
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.unpacker import load_kernels
load_kernels(StoreSettings.from_dict(json.loads(sys.argv[1])).stored_arrays())
"""
MAX_ARRAYS = 5  # of a GOP: kernels are given as many whatever is read, so that they are compiled once
load_numba()


class PlaneReader:
    """Reads GOPs in plain values into memory of the caller; safe under threads, fork and spawn.

    store: where from. arrays: what is read of a GOP: of `StoreSettings.stored_arrays` I-frames, residuals unless left
    out, and motion.
    """

    def __init__(self, store: Store, *, with_motion: bool, with_residual: bool = True) -> None:
        self.store = store
        self._kinds = {"iframe": True, "residual": with_residual, "motion": with_motion}
        self.arrays = [array for array in store.settings.stored_arrays() if self._kinds[array.kind]]
        self._names = [array.name for array in self.arrays]
        self._local = threading.local()
        if not all(array.is_plain for array in self.arrays) and not is_cached(unpack_chunks):
            _compile_elsewhere(json.dumps(store.settings.to_dict()))
        load_kernels(self.arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return _build_reader, (self.store, self._kinds["motion"], self._kinds["residual"])

    def announce(self, row: int) -> None:
        """Have the system fetch row `row` of gops.npy in the background."""
        self.store.announce(row, self._names)

    def stored_bytes(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Sizes of rows of gops.npy as stored."""
        return self.store.stored_bytes(rows, self._names)

    def fetch(self, row: int, room: memoryview) -> memoryview:
        """Read row `row` of gops.npy, as stored, into `room` of `stored_bytes`, for `read_into`. Raises StoreError."""
        return self.store.fetch(row, self._names, room)

    def read_into(self, row: int, planes: Mapping[str, NDArray[Any]], stored: memoryview | None = None) -> None:
        """Read row `row` of gops.npy into `planes`, by name `shape` of `read_dtype`, C-contiguous.

        stored: its bytes, where `fetch` has read them. Releases the GIL. Raises as `Store.read_chunks` does.
        """
        unpacker = self._unpacker()
        self.store.read_chunks(row, {**planes, **unpacker.chunks}, stored)
        unpacker.unpack(planes)

    def _unpacker(self) -> Unpacker:
        """This thread's own."""
        if not hasattr(self._local, "unpacker"):
            self._local.unpacker = Unpacker(self.arrays)
        found: Unpacker = self._local.unpacker
        return found


def load_kernels(arrays: Iterable[StoredArray]) -> None:
    """Compile what unpacks `arrays`, or load it from the cache: processes that are forked afterwards share it."""
    small = [replace(array, shape=tuple(min(size, QUAD) for size in array.shape)) for array in arrays]
    unpacker = Unpacker(small)
    for chunk in unpacker.chunks.values():
        chunk[...] = 0
    unpacker.unpack({array.name: array.empty() for array in small})


@cache
def _compile_elsewhere(settings: str) -> None:
    """Fill the cache in a process that ends, once: to compile takes 16 MB that no process gives back.

    Where that fails, kernels are compiled here.
    """
    command = [sys.executable, "-P", "-c", COMPILE, settings]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603, no shell
    if done.returncode == 0:
        mark_cached(unpack_chunks)


def _build_reader(store: Store, with_motion: bool, with_residual: bool) -> PlaneReader:  # noqa: FBT001 - for pickle
    return PlaneReader(store, with_motion=with_motion, with_residual=with_residual)


class Unpacker:
    """Unpacks one GOP after the other, in memory that it keeps.

    chunks: by name, of those among `arrays` that are packed; to be filled with chunks, `chunk_shape`.
    """

    def __init__(self, arrays: Iterable[StoredArray]) -> None:
        packed = [array for array in arrays if not array.is_plain]
        sizes = sorted({array.read_dtype.itemsize for array in packed})
        self._groups = [_Group([a for a in packed if a.read_dtype.itemsize == size], size) for size in sizes]
        self.chunks: dict[str, NDArray[Any]] = {}
        for group in self._groups:
            self.chunks |= group.chunks

    def unpack(self, planes: Mapping[str, NDArray[Any]]) -> None:
        """Write the plain values of `chunks` into `planes`, by name `shape` of `read_dtype`, C-contiguous."""
        for group in self._groups:
            group.unpack(planes)


class _Group:
    """Arrays whose values have one size: a single call unpacks them, and the GIL is taken back once."""

    def __init__(self, arrays: Sequence[StoredArray], size: int) -> None:
        self._unsigned = np.dtype(f"<u{size}")
        self._shapes = {array.name: _sheets_of(array) for array in arrays}
        memory = [np.empty(array.chunk_bytes // size, self._unsigned) for array in arrays]
        self.chunks = {
            array.name: part.view(array.chunk_dtype).reshape(array.chunk_shape)
            for array, part in zip(arrays, memory, strict=True)
        }
        plans = np.array([_plan_of(array) for array in arrays], np.int64)
        num_missing = MAX_ARRAYS - len(arrays)
        self._arguments = (*memory, *[np.empty(0, self._unsigned)] * num_missing), plans, _spare(arrays, size)
        self._padding = [np.empty((0, 0, 0), self._unsigned)] * num_missing

    def unpack(self, planes: Mapping[str, NDArray[Any]]) -> None:
        outs = [planes[name].view(self._unsigned).reshape(shape) for name, shape in self._shapes.items()]
        unpack_chunks(*self._arguments, (*outs, *self._padding))


def _sheets_of(array: StoredArray) -> tuple[int, int, int]:
    """(sheets, rows, m): all axes before that of rows as one, and all behind it."""
    shape, row = array.shape, array.row_axis
    return int(np.prod(shape[:row])), shape[row], int(np.prod(shape[row + 1 :]))


def _plan_of(array: StoredArray) -> tuple[int, int, int, int]:
    """A row of the plans of `unpack_chunks`."""
    sheets_back = int(np.prod(array.shape[1 : array.row_axis])) if "frame" in array.difference else 0
    has_columns = "column" in array.difference
    num_channels = int(np.prod(array.shape[array.axes.index("column") + 1 :])) if has_columns else 0
    return int(array.digits), sheets_back, int("row" in array.difference), num_channels


def _spare(arrays: Sequence[StoredArray], size: int) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any]]:
    """Memory for `unpack_chunks` of all arrays."""
    shapes = [_sheets_of(array) for array in arrays]
    num_values = max(-(-rows // QUAD) * QUAD * m for _, rows, m in shapes)
    joined, row = np.empty(size * num_values, np.uint8), max(m for *_, m in shapes)
    folded = joined if size == 1 else np.empty(num_values, f"<u{size}")
    return joined, folded, np.zeros(row, f"<u{size}")
