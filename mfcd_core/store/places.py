"""gops.npy of a store: where each GOP lies, and what its bytes are (DESIGN 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.errors import ChecksumError, StoreError
from mfcd_core.store.files import patiently
from mfcd_core.store.index import AGAIN, GOPS, LOOK, file_checksum

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store.index import StoreIndex
    from mfcd_core.store.settings import StoreSettings


def gop_place_dtype(settings: StoreSettings) -> np.dtype[Any]:
    """Rows of gops.npy: shard number, offset in bytes of the GOP's first chunk; of its chunks, bytes and xxh3_64."""
    num_arrays = len(settings.stored_arrays())
    places = [("shard", "<u4"), ("offset", "<u8")]
    return np.dtype([*places, ("sizes", "<u4", (num_arrays,)), ("checksums", "<u8", (num_arrays,))])


def open_places(folder: Path, index: StoreIndex) -> NDArray[Any]:
    """gops.npy, memory-mapped: see `gop_place_dtype`. Raises StoreError or ChecksumError."""
    path, num_gops = folder / GOPS, int(index.videos.num_gops.sum())
    try:
        if patiently(lambda: file_checksum(path)) != index.file_checksums[GOPS]:
            raise ChecksumError(f"{path}: other bytes than index.json recorded; {AGAIN}")
        places: NDArray[Any] = patiently(lambda: np.load(path, mmap_mode="r", allow_pickle=False)).view(np.ndarray)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); {LOOK}") from None
    if places.dtype != gop_place_dtype(index.settings) or places.shape != (num_gops,):
        found = f"{places.shape} of {places.dtype}"
        raise StoreError(f"{path}: {found}, expected {num_gops} GOPs as this version lists them; {AGAIN}")
    return places
