"""Seeded damage to the bytes of a file: flips, cuts, blocks of zeros and of noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_BLOCK_BYTES = 4096


def write_flipped(path: Path, data: bytes, place: int, bit: int) -> None:
    """The file `data` with one bit flipped, in place: open descriptors see it, and no disk is waited for."""
    damaged = bytearray(data)
    damaged[place] ^= 1 << bit
    with path.open("r+b") as file:
        file.write(damaged)


def flip_bit(data: bytearray, rng: np.random.Generator) -> bytearray:
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return data


def flip_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    for _ in range(int(rng.integers(2, 200))):
        flip_bit(data, rng)
    return data


def flip_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    data[int(rng.integers(2048))] ^= 1 << int(rng.integers(8))
    return data


def cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(len(data)))]


def zero_block(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(len(data))), int(rng.integers(1, MAX_BLOCK_BYTES))
    data[start : start + size] = bytes(len(data[start : start + size]))
    return data


def noise_block(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(len(data))), int(rng.integers(1, MAX_BLOCK_BYTES))
    data[start : start + size] = rng.bytes(len(data[start : start + size]))
    return data


def drop_block(data: bytearray, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(len(data))), int(rng.integers(1, MAX_BLOCK_BYTES))
    del data[start : start + size]
    return data


CORRUPTIONS: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (
    flip_bit,
    flip_bits,
    flip_header,
    cut,
    zero_block,
    noise_block,
    drop_block,
)


def corrupted(data: bytes, seed: int) -> bytes:
    """The `seed`-th way of spoiling `data`."""
    rng = np.random.default_rng(seed)
    return bytes(CORRUPTIONS[seed % len(CORRUPTIONS)](bytearray(data), rng))
