"""Levels: what is written is the same every time and decodes anywhere; a table of its own for each data set."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard

from mfcd_core.store.compression import AUTO, LEVELS, build_compressor, fill
from mfcd_core.store.settings import StoreSettings

NAMES = [
    array.name for form in ("yuv420p", "rgb24") for array in StoreSettings(4, 4, pixel_format=form).stored_arrays()
]


def digits(num_bytes: int = 200_000) -> np.ndarray:
    """Sparse small numbers that repeat close by, as packed residuals do."""
    rng = np.random.default_rng(0)
    return (rng.integers(1, 4, num_bytes) * (rng.random(num_bytes) < 0.2)).astype(np.uint8)


@pytest.mark.parametrize("level", [AUTO, LEVELS[0], 0, 1, 2, 9, LEVELS[-1]])
@pytest.mark.parametrize("name", sorted({*NAMES}))
def test_every_level_of_every_data_set_gives_one_whole_frame(name: str, level: int | str) -> None:
    values = digits(3000)
    frame = bytes(build_compressor(name, "zstd", level)(values))
    found = zstandard.get_frame_parameters(frame)
    assert (found.content_size, found.has_checksum) == (values.nbytes, True)
    assert zstandard.ZstdDecompressor().decompress(frame) == values.tobytes()


@pytest.mark.parametrize("level", [AUTO, -5, 1, 3])
def test_bytes_depend_on_values_alone(level: int | str) -> None:
    """Not on what a compressor did before."""
    used, values = build_compressor("motion", "zstd", level), digits()
    used(values[::-1].copy())
    assert used(values) == build_compressor("motion", "zstd", level)(values)


def test_a_small_table_is_for_the_fast_strategy_alone() -> None:
    values = digits()
    by_zstd = {}
    for level in (1, 3):
        parameters = zstandard.ZstdCompressionParameters.from_level(level, write_checksum=True)
        by_zstd[level] = zstandard.ZstdCompressor(compression_params=parameters).compress(values.data)
    assert len(build_compressor("residual/luma", "zstd", 1)(values)) < len(by_zstd[1])
    assert build_compressor("residual/luma", "zstd", 3)(values) == by_zstd[3]


def test_without_compression_the_values_are_the_bytes() -> None:
    values = np.arange(-6, 6, dtype="<i2").reshape(3, 4)
    assert bytes(build_compressor("motion", "none", 1)(values)) == values.tobytes()


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_what_was_compressed_fills_memory_of_its_size_alone(compression: str, extra: int) -> None:
    values, room = digits(), bytearray(len(digits()) + extra)
    chunk = memoryview(bytearray(build_compressor("motion", compression, 1)(values)))
    assert fill(memoryview(room), chunk, compression, zstandard.ZstdDecompressor()) == (extra == 0)
    assert extra or room == values.tobytes()


@pytest.mark.parametrize("write_checksum", [False, True])
def test_a_frame_needs_no_checksum_of_its_own(*, write_checksum: bool) -> None:
    values, room = digits(), bytearray(len(digits()))
    chunk = bytearray(zstandard.ZstdCompressor(write_checksum=write_checksum).compress(values.data))
    assert fill(memoryview(room), memoryview(chunk), "zstd", zstandard.ZstdDecompressor())
    assert room == values.tobytes()
