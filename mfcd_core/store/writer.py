"""Writing one shard: GOPs are compressed as they come and laid side by side."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from mfcd_core.store.compression import build_compressor
from mfcd_core.store.layout import gop_dtype, video_dtype, write_shard_file
from mfcd_core.store.packer import GopPacker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store.settings import StoreSettings

SPOOL_BYTES = 32 << 20


@dataclass(frozen=True)
class VideoRow:
    """One row of `/videos`: id, real frames stored, GOPs, and xxh3_64 of the encoded file."""

    video_id: str
    num_frames: int
    num_gops: int
    checksum: int


class ShardWriter:
    """Collects the GOPs of one shard: compressed, in memory up to 32 MB, beyond that in an unnamed file.

    packer: packs the GOP that comes next.

    A video that fails midway is taken back with `drop_video`, as if it had never begun.
    """

    def __init__(self, settings: StoreSettings, spool_folder: Path) -> None:
        self._settings = settings
        self._arrays = settings.stored_arrays()
        self.packer = GopPacker(self._arrays)
        self._compressors = {
            array.name: build_compressor(array.name, settings.compression, settings.level) for array in self._arrays
        }
        self._spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=str(spool_folder))  # noqa: SIM115 - closed by write
        self._videos: list[VideoRow] = []
        self._gops: list[tuple[int, int, int, list[int], list[int]]] = []
        self._video_start = (0, 0)

    def add_gop(self, gop: Mapping[str, NDArray[Any]]) -> None:
        """Take a whole GOP: arrays by the names of `StoreSettings.stored_arrays`, of their shape and either dtype.

        Every p - D_t(p) must lie in the picture, as tracing has it: only then does a byte of motion say everything.
        """
        self.packer(gop)
        self.end_gop()

    def end_gop(self) -> None:
        """Compress the GOP that `packer` has."""
        chunks = [self._compressors[name](chunk) for name, chunk in self.packer.chunks.items()]
        for chunk in chunks:
            self._spool.write(chunk)
        position = len(self._gops) - self._video_start[0]
        sizes, checksums = [len(c) for c in chunks], [xxhash.xxh3_64_intdigest(c) for c in chunks]
        self._gops.append((len(self._videos), position, 0, sizes, checksums))

    def end_video(self, video_id: str, num_frames: int, checksum: int) -> None:
        """Close the video whose GOPs were added since the last one."""
        self._videos.append(VideoRow(video_id, num_frames, len(self._gops) - self._video_start[0], checksum))
        self._video_start = (len(self._gops), self._spool.tell())

    def drop_video(self) -> None:
        """Forget the GOPs added since the last `end_video`."""
        num_gops, num_bytes = self._video_start
        del self._gops[num_gops:]
        self._spool.seek(num_bytes)
        self._spool.truncate()

    def write(self, path: Path) -> int:
        """Write the shard to `path`; returns its number of GOPs. An empty shard writes nothing and returns 0."""
        with self._spool:
            if self._gops:
                gops = np.array(self._gops, gop_dtype(len(self._arrays)))
                self._spool.seek(0)
                write_shard_file(path, self._settings, self._video_table(), gops, self._iter_chunks())
        return len(self._gops)

    def close(self) -> None:
        """Give back the room of GOPs that were never written."""
        self._spool.close()

    def _video_table(self) -> NDArray[Any]:
        ids = [video.video_id.encode() for video in self._videos]
        table = np.zeros(len(ids), video_dtype(max(map(len, ids))))
        first_gop = 0
        for row, (video_id, video) in enumerate(zip(ids, self._videos, strict=True)):
            table[row] = (video_id, video.num_frames, video.num_gops, first_gop, video.checksum)
            first_gop += video.num_gops
        return table

    def _iter_chunks(self) -> Iterator[bytes]:
        for gop in self._gops:
            for size in gop[3]:
                yield self._spool.read(size)
