"""Kernels from the chunks of a GOP to plain values: digits joined, differences summed (docs/store-format.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.kernels import jit
from mfcd_core.store.digits import swap_digits
from mfcd_core.store.packing import QUAD

if TYPE_CHECKING:
    from numpy.typing import NDArray


@jit
def unpack_chunks(
    chunks: tuple[NDArray[Any], ...],
    plans: NDArray[np.int64],
    spare: tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any]],
    outs: tuple[NDArray[Any], ...],
) -> None:
    """Plain values (sheets, rows, m) of several arrays, of one size of value, from their chunks, flat.

    plans: a row an array, whatever is behind it in chunks and outs: digits or not; how many sheets there are from a
    frame to that before, or 0; rows summed or not; channels, where columns are summed, or 0. spare: memory for the
    bytes of a sheet, for its values, which may be the same where a value has one byte, and a row of zeros.
    """
    for i in range(len(plans)):
        has_digits, sheets_back, are_rows_summed, num_channels = plans[i]
        if has_digits:
            _join_digits(chunks[i].view(np.uint8), spare, sheets_back, outs[i])
            if are_rows_summed:
                _sum_rows_here(outs[i])
            if num_channels:
                _sum_columns(outs[i], num_channels)
        else:
            _sum_rows(chunks[i], spare[1], outs[i])


@jit
def _join_digits(
    digits: NDArray[np.uint8],
    spare: tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any]],
    sheets_back: int,
    out: NDArray[Any],
) -> None:
    """Values (sheets, rows, m) from digits (bytes, 4, sheets, quads * m), flat, each added to one before."""
    num_sheets, num_rows, row_size = out.shape
    size, num_quads = out.itemsize, -(-num_rows // QUAD)
    num_bytes = num_quads * row_size
    digits = digits.reshape(size, QUAD, num_sheets, num_bytes)
    joined, folded = spare[0][: size * QUAD * num_bytes].reshape(size, QUAD, num_bytes), spare[1][: QUAD * num_bytes]
    for sheet in range(num_sheets):
        for byte in range(size):
            swap_digits(digits[byte, :, sheet], joined[byte])
        if size == 2:
            _join_bytes(joined, folded.reshape(QUAD, num_bytes))
        values = folded.reshape(QUAD, num_quads, row_size)
        has_before = sheets_back > 0 and sheet >= sheets_back
        for y in range(num_rows):
            row, z = out[sheet, y], values[y % QUAD, y // QUAD]
            before = out[sheet - sheets_back, y] if has_before else spare[2][:row_size]
            for x in range(np.uint64(row.size)):  # here: a function of its own is not vectorised
                row[x] = ((z[x] >> 1) ^ -(z[x] & 1)) + before[x]  # modulo what the type holds


@jit
def _join_bytes(joined: NDArray[np.uint8], out: NDArray[Any]) -> None:
    for i in range(QUAD):
        for x in range(np.uint64(out.shape[1])):
            out[i, x] = np.uint16(joined[0, i, x]) | (np.uint16(joined[1, i, x]) << np.uint16(8))


@jit
def _sum_rows(rows: NDArray[Any], spare: NDArray[Any], out: NDArray[Any]) -> None:
    """Running sums down (rows, sheets, m), flat, as (sheets, rows, m); spare: for the sums."""
    rows = rows.reshape(out.shape[1], out.shape[0], out.shape[2])
    total = spare[: out.shape[2]]
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
