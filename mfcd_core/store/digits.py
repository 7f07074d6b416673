"""Digits of base 4: those of one byte, or one digit of four bytes, lie in a byte; one kernel for both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.kernels import inlined, jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHIFTS = (np.uint8(4), np.uint8(2))  # of a pair of digits, of one
MASKS = (np.uint8(0x0F), np.uint8(0x33))


@jit
def swap_digits(digits: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Digit k of byte i becomes digit i of byte k, in (4, n): in pairs of digits first, then single ones."""
    for x in range(np.uint64(digits.shape[1])):  # unsigned: no test for negative indices
        a, c = _exchange(digits[0, x], digits[2, x], SHIFTS[0], MASKS[0])
        b, d = _exchange(digits[1, x], digits[3, x], SHIFTS[0], MASKS[0])
        out[0, x], out[1, x] = _exchange(a, b, SHIFTS[1], MASKS[1])
        out[2, x], out[3, x] = _exchange(c, d, SHIFTS[1], MASKS[1])


@inlined
def _exchange(low: np.uint8, high: np.uint8, num_bits: np.uint8, mask: np.uint8) -> tuple[np.uint8, np.uint8]:
    """The upper bits of each group in `low` for the lower ones in `high`; `mask` has the lower ones."""
    changed = np.uint8((np.uint8(low >> num_bits) ^ high) & mask)
    return np.uint8(low ^ np.uint8(changed << num_bits)), np.uint8(high ^ changed)
