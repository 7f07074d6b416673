"""What is done to packed values on their way to the disk, and what a level means (docs/decisions/0002)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zstandard
from zstandard import ZstdCompressionParameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ZSTD, NONE = "zstd", "none"
COMPRESSIONS = (ZSTD, NONE)
AUTO = "auto"
LEVELS = range(-7, 23)
DESCRIPTOR, HAS_CHECKSUM, CHECKSUM_BYTES = 4, 1 << 2, 4  # of a zstd frame: RFC 8878, 3.1.1
FAST_HASH_LOG = 6  # digits repeat close by: 64 places find better matches than the 16384 of level 1
# Beside level 1, by the first part of a data set's name. A table and no timing: the same GOPs give the same bytes.
AUTO_PARAMETERS: dict[str, dict[str, int]] = {
    "iframe": {"hash_log": FAST_HASH_LOG, "window_log": 14},
    "residual": {"hash_log": FAST_HASH_LOG},
    "motion": {
        "strategy": zstandard.STRATEGY_LAZY,
        "window_log": 21,
        "hash_log": 12,
        "chain_log": 10,
        "search_log": 3,
        "min_match": 5,
    },
}


def build_compressor(name: str, compression: str, level: int | str) -> Callable[[NDArray[Any]], bytes | memoryview]:
    """From the C-contiguous values of a chunk of data set `name` to its bytes.

    `zstd`: one frame with content size and checksum. `none`: the values themselves, which last as long as they do.
    """
    if compression == NONE:
        return lambda values: values.reshape(-1).view("u1").data
    compressor = zstandard.ZstdCompressor(compression_params=_parameters(name, level))
    return lambda values: compressor.compress(values.data)


def fill(out: memoryview, chunk: memoryview, compression: str, decompressor: zstandard.ZstdDecompressor) -> bool:
    """Fill `out` with what a chunk holds, whose bytes are known to be those that were written; returns if it is full.

    The other way round than `build_compressor`. A frame's own checksum, of what it holds, takes a fifth of the time
    and would say the same again: so it is taken off, in `chunk`, which is not to be used afterwards. Raises
    zstandard.ZstdError for what is no frame.
    """
    if compression == NONE:
        if len(chunk) == len(out):
            out[:] = chunk
        return len(chunk) == len(out)
    frame = zstandard.get_frame_parameters(chunk)
    if frame.has_checksum:
        chunk[DESCRIPTOR] &= ~HAS_CHECKSUM
        chunk = chunk[:-CHECKSUM_BYTES]
    return bool(frame.content_size == len(out) == decompressor.stream_reader(chunk).readinto(out))


def _parameters(name: str, level: int | str) -> ZstdCompressionParameters:
    frame = {"write_checksum": True, "write_content_size": True}
    if isinstance(level, str):
        return ZstdCompressionParameters.from_level(1, **AUTO_PARAMETERS[name.partition("/")[0]], **frame)
    is_fast = ZstdCompressionParameters.from_level(level).strategy == zstandard.STRATEGY_FAST
    return ZstdCompressionParameters.from_level(level, **({"hash_log": FAST_HASH_LOG} if is_fast else {}), **frame)
