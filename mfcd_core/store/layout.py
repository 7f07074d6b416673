"""The HDF5 tree of a shard (DESIGN 4): the only file that knows it."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import h5py
import hdf5plugin
import numpy as np

from mfcd_core.errors import StoreError
from mfcd_core.store.compression import ZSTD
from mfcd_core.store.settings import FORMAT, FORMAT_VERSION, StoreSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

LIBVER = ("v110", "v110")
ZSTD_FILTER = 32015
MEND = "run mfcd-prep repair STORE ENCODED"
BYTES_OF_TREE = 1 << 16  # headers of the tree, and per GOP its row in each chunk index: one block, so that chunks touch
BYTES_OF_TREE_PER_GOP = 256


def video_dtype(id_bytes: int) -> np.dtype[Any]:
    """Rows of `/videos`; ids are UTF-8, padded with zeros."""
    text = h5py.string_dtype("utf-8", max(id_bytes, 1))
    return np.dtype(
        [("id", text), ("num_frames", "<u4"), ("num_gops", "<u4"), ("first_gop", "<u4"), ("checksum", "<u8")]
    )


def gop_dtype(num_arrays: int) -> np.dtype[Any]:
    """Rows of `/gops`: the video's row, position in the video, where the chunks lie, xxh3_64 of each chunk's bytes."""
    return np.dtype(
        [
            ("video", "<u4"),
            ("position", "<u4"),
            ("offset", "<u8"),
            ("sizes", "<u4", (num_arrays,)),
            ("checksums", "<u8", (num_arrays,)),
        ]
    )


@dataclass(frozen=True)
class Shard:
    """What a shard says of itself: settings, rows of `/videos` and `/gops`, and each chunk's place in the file.

    places: (N, num_arrays, 2) int64, offset and size in bytes of every chunk as HDF5's own index has it.
    ids: video ids in order. Raises ValueError where /gops does not list the GOPs that /videos counts, in order.
    """

    settings: StoreSettings
    videos: NDArray[Any]
    gops: NDArray[Any]
    places: NDArray[np.int64]
    ids: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", [bytes(value).decode() for value in self.videos["id"]])
        counts = self.videos["num_gops"].astype(np.int64)
        first = counts.cumsum() - counts
        if counts.sum() != len(self.gops) or not np.array_equal(self.videos["first_gop"], first):
            raise ValueError(f"/videos counts other GOPs than the {len(self.gops)} of /gops")
        video = np.repeat(np.arange(len(counts)), counts)
        position = np.arange(len(self.gops)) - first[video]
        if not (np.array_equal(self.gops["video"], video) and np.array_equal(self.gops["position"], position)):
            raise ValueError("/gops does not list the GOPs that /videos counts")


def write_shard_file(
    path: Path, settings: StoreSettings, videos: NDArray[Any], gops: NDArray[Any], chunks: Iterable[bytes]
) -> None:
    """Write a whole shard: `chunks` in the order of `gops` and, within a GOP, of the settings' stored arrays.

    Fills `gops["offset"]`. Raises StoreError if HDF5 does not lay the chunks of a GOP side by side, OSError where the
    system takes no more bytes.
    """
    tree_bytes = BYTES_OF_TREE + BYTES_OF_TREE_PER_GOP * len(gops)
    with _new_file(path, tree_bytes) as file:
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["settings"] = np.bytes_(json.dumps(settings.to_dict(), sort_keys=True))
        arrays = [_create_array(file, array, settings.compression, len(gops)) for array in settings.stored_arrays()]
        stream, targets = iter(chunks), [(array.id, [0] * (array.ndim - 1)) for array in arrays]
        for row in range(len(gops)):
            for identifier, rest in targets:
                identifier.write_direct_chunk((row, *rest), next(stream))
        places = _chunk_places(arrays, len(gops))
        gops["offset"] = places[:, 0, 0]
        require_adjacent(path, places)
        file.create_dataset("videos", data=videos, track_times=False)
        file.create_dataset("gops", data=gops, track_times=False)


@contextmanager
def _new_file(path: Path, meta_block_bytes: int) -> Iterator[h5py.File]:
    """A new HDF5 file, closed at the end. Raises OSError where the system takes no more bytes.

    HDF5 cannot give a file up: as it closes it, it writes what is left, fails again, and may crash. So what is left
    goes into memory then.
    """
    file = h5py.File(path, "w", libver=LIBVER, meta_block_size=meta_block_bytes)
    try:
        yield file
        file.flush()
    except (OSError, RuntimeError) as error:
        with _file_elsewhere() as left:
            os.dup2(left.fileno(), file.id.get_vfd_handle())
            with suppress(OSError, RuntimeError):
                file.close()
        raise _as_os_error(error) from None
    finally:
        file.close()


def _file_elsewhere() -> IO[bytes]:
    """In memory, where the system has such files."""
    return os.fdopen(os.memfd_create("left"), "r+b") if sys.platform == "linux" else tempfile.TemporaryFile()


def _as_os_error(error: OSError | RuntimeError) -> OSError | RuntimeError:
    """HDF5 says an error of the system in its text, whatever it raises."""
    number = re.search(r"errno = (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else error


def _create_array(file: h5py.File, array: Any, compression: str, num_gops: int) -> Any:  # noqa: ANN401 - no types
    found = file.create_dataset(
        array.name,
        shape=(num_gops, *array.chunk_shape),
        chunks=(1, *array.chunk_shape),
        dtype=array.chunk_dtype,
        track_times=False,
        **(hdf5plugin.Zstd() if compression == ZSTD else {}),
    )
    found.attrs["axes"] = np.bytes_(" ".join(("gop", *array.chunk_axes)))
    found.attrs["difference"] = np.bytes_(" ".join(array.difference))
    found.attrs["modulo"] = array.modulo
    found.attrs["shape"] = array.shape
    return found


def _chunk_places(arrays: list[Any], num_gops: int) -> NDArray[np.int64]:
    places = np.full((num_gops, len(arrays), 2), -1, np.int64)
    for column, array in enumerate(arrays):

        def note(info: Any, column: int = column) -> None:  # noqa: ANN401
            if info.filter_mask == 0:
                places[info.chunk_offset[0], column] = info.byte_offset, info.size

        array.id.chunk_iter(note)
    return places


def require_adjacent(path: Path, places: NDArray[np.int64]) -> None:
    """Raise StoreError unless every chunk is there and the chunks of each GOP touch: one read fetches a GOP."""
    missing = np.flatnonzero((places < 0).any((1, 2)))
    if len(missing):
        raise StoreError(f"{path.name}: GOP row {missing[0]} has a chunk that was never written; {MEND}")
    apart = np.flatnonzero((places[:, :-1].sum(2) != places[:, 1:, 0]).any(1))
    if len(apart):
        raise StoreError(f"{path.name}: chunks of GOP row {apart[0]} do not touch; {MEND}")


def read_shard_file(path: Path) -> Shard:
    """Read the tables of a shard and where its chunks lie; follows no link out of the file. Raises StoreError."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            settings = _read_settings(path, file)
            arrays = [_open_array(path, file, array, settings.compression) for array in settings.stored_arrays()]
            videos, gops = _read_table(path, file, "videos"), _read_table(path, file, "gops")
            if gops.dtype != gop_dtype(len(arrays)) or videos.dtype != video_dtype(videos.dtype["id"].itemsize):
                raise StoreError(f"{path.name}: tables of {videos.dtype} and {gops.dtype}; {MEND}")
            if any(len(array) != len(gops) for array in arrays):
                raise StoreError(f"{path.name}: data sets of different length; {MEND}")
            return Shard(settings, videos, gops, _chunk_places(arrays, len(gops)))
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise StoreError(f"{path.name}: not a readable shard ({error}); {MEND}") from None


def _read_settings(path: Path, file: h5py.File) -> StoreSettings:
    if "format" not in file.attrs or _read_text(file, "format") != FORMAT:
        raise StoreError(f"{path.name}: an HDF5 file but not a shard of {FORMAT}")
    version = int(file.attrs["format_version"])
    if version > FORMAT_VERSION:
        raise StoreError(f"{path.name}: format version {version}, this reader knows {FORMAT_VERSION}; update mfcd")
    return StoreSettings.from_dict(json.loads(_read_text(file, "settings")))


def _read_text(file: h5py.File, name: str) -> str:
    """A text of fixed length. Others lie in a heap without checksum: one flipped bit there and HDF5 never returns."""
    if file.attrs.get_id(name).dtype.kind != "S":
        raise ValueError(f"attribute {name} is {file.attrs.get_id(name).dtype}, expected text of fixed length")
    return bytes(file.attrs[name]).decode()


def _read_table(path: Path, file: h5py.File, name: str) -> NDArray[Any]:
    table = _open_plain(path, file, name)
    if table.chunks or table.ndim != 1 or table.id.get_storage_size() != len(table) * table.dtype.itemsize:
        raise StoreError(f"{path.name}: /{name} is not a plain table, whole and without filters; refused")
    rows: NDArray[Any] = table[()]
    return rows


def _open_plain(path: Path, file: h5py.File, name: str) -> Any:  # noqa: ANN401
    """Open a data set that lies in this very file: no soft or external link, no external or virtual storage."""
    group = file
    for part in name.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise StoreError(f"{path.name}: /{name} is missing or a link; expected a data set of the file itself")
        group = group[part]
    if not isinstance(group, h5py.Dataset):
        raise StoreError(f"{path.name}: /{name} is a group, expected a data set; {MEND}")
    if group.is_virtual or group.external:
        raise StoreError(f"{path.name}: /{name} is kept outside the file; expected it inside")
    return group


def _open_array(path: Path, file: h5py.File, array: Any, compression: str) -> Any:  # noqa: ANN401
    found = _open_plain(path, file, array.name)
    plist = found.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if (
        found.shape[1:] != array.chunk_shape
        or found.dtype != array.chunk_dtype
        or found.chunks != (1, *array.chunk_shape)
    ):
        raise StoreError(f"{path.name}: /{array.name} is {found.dtype} {found.shape}, expected {array}; {MEND}")
    if filters != ([ZSTD_FILTER] if compression == ZSTD else []):
        raise StoreError(f"{path.name}: /{array.name} has other filters than {compression}; refused")
    return found
