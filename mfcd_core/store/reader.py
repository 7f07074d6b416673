"""Reading a store: one read a GOP by byte range, zstd, no HDF5 call (DESIGN 5)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
import zstandard

from mfcd_core.errors import ChecksumError, StoreError, UsageError
from mfcd_core.gop import Gop, signed_motion
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store.compression import fill
from mfcd_core.store.files import ShardFiles
from mfcd_core.store.index import read_index
from mfcd_core.store.packing import unpack_gop
from mfcd_core.store.places import open_places

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from mfcd_core.store.files import Copies
    from mfcd_core.store.settings import StoreSettings
    from mfcd_core.store.videos import Videos


class Store:
    """A store opened for reading; cheap to open, safe under threads, fork and spawn.

    settings: `StoreSettings`. classes: class names. videos: `Videos`, one row a video. splits: per split name, role ->
    rows of `videos`. places: gops.npy, memory-mapped. checksum: of index.json. Raises StoreError or ChecksumError when
    the store is missing, of a higher version or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], copies: Copies | None = None) -> None:
        self.path = Path(path)
        index = read_index(self.path)
        self.settings: StoreSettings = index.settings
        self.classes: tuple[str, ...] = index.classes
        self.videos: Videos = index.videos
        self.splits: Mapping[str, Mapping[str, NDArray[np.int64]]] = index.splits
        self.shards = index.shards
        self.versions = index.versions
        self.checksum = index.checksum
        self._arrays = self.settings.stored_arrays()
        self.places: NDArray[Any] = open_places(self.path, index)
        self._copies = copies
        self._files = ShardFiles(self.path, copies)

    def __repr__(self) -> str:
        size = f"{self.settings.width_px}x{self.settings.height_px}"
        counts = f"{len(self.videos)} videos, {len(self.places)} GOPs of {size}, {len(self.classes)} classes"
        return f"Store({self.path}: {counts})"

    def __reduce__(self) -> tuple[Any, tuple[Path, Copies | None, str]]:
        return _reopen, (self.path, self._copies, self.checksum)

    def beside(self, copies: Copies) -> Store:
        """The same store, read from `copies` as far as there are any; both have one index in memory."""
        nearer = object.__new__(Store)
        vars(nearer).update(vars(self), _copies=copies, _files=ShardFiles(self.path, copies))
        return nearer

    def read_gop(self, video_id: str, gop_index: int) -> Gop:
        """Read GOP number `gop_index` of a video, with residuals in levels.

        Raises StoreError for an unknown video, UsageError for a GOP that it does not have, ChecksumError for damage.
        """
        video = self.videos.row_of(video_id)
        num_gops = int(self.videos.num_gops[video])
        if not 0 <= gop_index < num_gops:
            raise UsageError(f"GOP {gop_index} of {video_id!r}: expected 0 to {num_gops - 1}")
        chunks = {array.name: array.empty_chunk() for array in self._arrays}
        self.read_chunks(int(self.videos.first_gop[video]) + gop_index, chunks)
        plain = {array.name: unpack_gop(array, chunks[array.name]) for array in self._arrays}
        return build_gop(self.settings, plain, self.num_real_frames(video, gop_index))

    def num_real_frames(self, video: int, gop_index: int) -> int:
        """Frames of GOP `gop_index` of the video in row `video` that are not repeats of its last frame."""
        gop_size = self.settings.gop_size
        return min(gop_size, int(self.videos.num_frames[video]) - gop_index * gop_size)

    def shard_of(self, video: int) -> str:
        """File name of the shard that holds the video in row `video`."""
        return self.shards.name(int(self.places[self.videos.first_gop[video]]["shard"]))

    def read_chunks(self, row: int, chunks: Mapping[str, NDArray[Any]], stored: memoryview | None = None) -> None:
        """Fill `chunks`, made by `StoredArray.empty_chunk`, from row `row` of gops.npy.

        They stay as stored, differences and digits: `unpack_gop` and `Unpacker` undo them. Chunks that are left out at
        the end of a GOP (motion lies last) are not even read. stored: what `fetch` gave, where it was called before.
        Releases the GIL. What may pass is tried again (see `ShardFiles.read`), and what a copy fails to give is read
        from the store. Raises StoreError, or ChecksumError for damage, with shard, video and GOP.
        """
        try:
            self._read_chunks(row, chunks, stored)
        except StoreError as error:
            shard = self.shards.name(int(self.places[row]["shard"]))
            if not (self._copies and self._copies.give_up(shard, error)):
                raise
            self._read_chunks(row, chunks)

    def _read_chunks(self, row: int, chunks: Mapping[str, NDArray[Any]], stored: memoryview | None = None) -> None:
        shard, offset, sizes = self._range(row, chunks)
        if stored is None:
            stored = self._read_bytes(row, shard, offset, sum(sizes))
        start, checksums = 0, self.places[row]["checksums"].tolist()
        for array, size, checksum in zip(self._arrays, sizes, checksums, strict=False):
            if array.name in chunks and (
                wrong := self._fill(chunks[array.name], stored[start : start + size], checksum)
            ):
                raise ChecksumError(f"{self._where(row)}: {array.name} {wrong}; run mfcd-prep verify")
            start += size

    def announce(self, row: int, names: Collection[str]) -> None:
        """Have the system fetch what `read_chunks` will read of these names, in the background."""
        shard, offset, sizes = self._range(row, names)
        self._files.announce(self.shards.name(shard), offset, sum(sizes))

    def stored_bytes(self, rows: Sequence[int], names: Collection[str]) -> NDArray[np.int64]:
        """How many bytes `read_chunks` reads of these names, by row."""
        sizes: NDArray[np.int64] = self.places["sizes"][rows, : self._num_chunks(names)].sum(1, np.int64)
        return sizes

    def fetch(self, row: int, names: Collection[str], room: memoryview) -> memoryview:
        """What `read_chunks` reads of these names, unchecked, in `room` of `stored_bytes`. Raises as that does."""
        shard, offset, sizes = self._range(row, names)
        return self._read_bytes(row, shard, offset, sum(sizes), room)

    def _range(self, row: int, names: Collection[str]) -> tuple[int, int, list[int]]:
        """Shard, offset, and sizes of the chunks of a GOP up to the last one that is wanted."""
        place = self.places[row]
        return int(place["shard"]), int(place["offset"]), place["sizes"][: self._num_chunks(names)].tolist()

    def _num_chunks(self, names: Collection[str]) -> int:
        wanted = [array.name in names for array in self._arrays]
        return len(wanted) - wanted[::-1].index(True)

    def _read_bytes(
        self, row: int, shard: int, offset: int, num_bytes: int, room: memoryview | None = None
    ) -> memoryview:
        try:
            stored = self._files.read(self.shards.name(shard), offset, num_bytes, room)
        except OSError as error:
            raise StoreError(f"{self._where(row)}: cannot be read ({error}); check the file system") from error
        if len(stored) != num_bytes:
            raise ChecksumError(f"{self._where(row)}: {len(stored)} bytes, expected {num_bytes}; run mfcd-prep verify")
        return stored

    def _fill(self, out: NDArray[Any], chunk: memoryview, checksum: int) -> str:
        """Check the bytes of a chunk, then fill `out` with what they hold; returns what is wrong with them."""
        if xxhash.xxh3_64_intdigest(chunk) != checksum:
            return "is damaged (checksum)"
        target = out.data.cast("B")
        try:
            whole = fill(target, chunk, self.settings.compression, self._files.decompressor())
        except zstandard.ZstdError as error:
            return f"is damaged ({error})"
        return "" if whole else f"has another size than {out.nbytes}"

    def _where(self, row: int) -> str:
        video = int(np.searchsorted(self.videos.first_gop, row, side="right")) - 1
        gop_index = row - int(self.videos.first_gop[video])
        shard = self.shards.name(int(self.places[row]["shard"]))
        return f"{self._files.locate(shard)}: GOP {gop_index} of {self.videos.id(video)!r}"


def _reopen(path: Path, copies: Copies | None, checksum: str) -> Store:
    """In another process, whose rows have to be those of the first."""
    store = Store(path, copies)
    if store.checksum != checksum:
        raise StoreError(f"{path}: extracted again since the process that sent it here opened it; start that again")
    return store


def build_gop(settings: StoreSettings, arrays: Mapping[str, NDArray[Any]], real_frames: int) -> Gop:
    """A GOP with residuals in levels from its plain values, by the names of `StoreSettings.stored_arrays`.

    I-frame and motion may share memory with `arrays`.
    """
    names = [plane.name for plane in PIXEL_FORMATS[settings.pixel_format]]
    step = np.int16(settings.residual_step)
    return Gop(
        iframe={name: arrays[f"iframe/{name}"] for name in names},
        residual={name: arrays[f"residual/{name}"].astype(np.int16) * step for name in names},
        motion=signed_motion(arrays["motion"]),
        real_frames=real_frames,
        pixel_format=settings.pixel_format,
    )
