"""Peers of `mfcd-bench load` that read what the same clips were written to: HDF5 without us, and JPEG frames."""

from __future__ import annotations

import importlib
import io
import tarfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401 - importing it gives h5py the zstd filter
import numpy as np
import zstandard
from PIL import Image

from mfcd_core.store.compression import fill
from mfcd_core.store.packing import unpack_gop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store import Store
    from mfcd_core.store.packing import StoredArray

BATCH_SIZE = 32
JPEG_QUALITY = 95
MOTION = "motion"


def arrays_of(store: Store, *, with_motion: bool) -> list[StoredArray]:
    """What of a GOP is read."""
    return [array for array in store.settings.stored_arrays() if with_motion or array.name != MOTION]


def read_chunks(store: Store, gops: Iterable[int], *, with_motion: bool) -> None:
    """Our reader alone, digits and differences as they are, into batches: what plain h5py is beside."""
    arrays = arrays_of(store, with_motion=with_motion)
    batch = {array.name: np.empty((BATCH_SIZE, *array.chunk_shape), array.chunk_dtype) for array in arrays}
    for i, gop in enumerate(gops):
        store.read_chunks(gop, {name: chunks[i % BATCH_SIZE] for name, chunks in batch.items()})


def read_hdf5(store: Store, gops: Iterable[int], *, with_motion: bool, as_stored: bool) -> None:
    """The store's own shards through h5py and hdf5plugin, as they are or in plain values, into batches."""
    arrays = arrays_of(store, with_motion=with_motion)
    first_rows = np.cumsum([0, *(shard.num_gops for shard in store.shards)])
    with ExitStack() as stack:
        files = [stack.enter_context(h5py.File(store.path / s.name, "r", locking=False)) for s in store.shards]
        data = [[file[array.name] for array in arrays] for file in files]
        num_kept = BATCH_SIZE if as_stored else 1
        chunks = [np.empty((num_kept, *array.chunk_shape), array.chunk_dtype) for array in arrays]
        batch = [array.empty(BATCH_SIZE) for array in arrays]
        for i, gop in enumerate(gops):
            shard = int(store.places[gop]["shard"])
            _read_rows(data[shard], gop - int(first_rows[shard]), chunks, i % num_kept)
            if not as_stored:
                for array, chunk, planes in zip(arrays, chunks, batch, strict=True):
                    planes[i % BATCH_SIZE] = unpack_gop(array, chunk[0])


def write_gzip(store: Store, path: Path, num_gops: int) -> None:
    """The first GOPs in plain values, one chunk a GOP, gzip at h5py's own level."""
    arrays = arrays_of(store, with_motion=True)
    read = {array.name: array.empty_chunk() for array in arrays}
    with h5py.File(path, "w") as file:
        for array in arrays:
            shape, chunk = (num_gops, *array.shape), (1, *array.shape)
            file.create_dataset(array.name, shape, array.read_dtype, chunks=chunk, compression="gzip")
        for gop in range(num_gops):
            store.read_chunks(gop, read)
            for array in arrays:
                file[array.name][gop] = unpack_gop(array, read[array.name])


def read_gzip(path: Path, names: Sequence[str], gops: Iterable[int]) -> None:
    """What `write_gzip` wrote, into batches."""
    with h5py.File(path, "r", locking=False) as file:
        data = [file[name] for name in names]
        batch = [np.empty((BATCH_SIZE, *array.shape[1:]), array.dtype) for array in data]
        for i, gop in enumerate(gops):
            _read_rows(data, gop, batch, i % BATCH_SIZE)


def _read_rows(data: Sequence[Any], row: int, batch: Sequence[NDArray[Any]], place: int) -> None:
    for array, planes in zip(data, batch, strict=True):
        array.read_direct(planes, np.s_[row], np.s_[place])


def write_jpegs(store: Store, folder: Path, tar: Path, num_gops: int) -> int:
    """Frames of the first GOPs, rebuilt, as files and in one archive; returns the bytes of the files."""
    num_bytes = 0
    with tarfile.open(tar, "w") as archive:
        for gop, frames in enumerate(_rebuilt_frames(store, num_gops)):
            (folder / str(gop)).mkdir(parents=True)
            for number, frame in enumerate(frames):
                path = folder / str(gop) / f"{number:03}.jpg"
                Image.fromarray(frame).save(path, quality=JPEG_QUALITY)
                archive.add(path, f"{gop}/{path.name}")
                num_bytes += path.stat().st_size
    return num_bytes


def _rebuilt_frames(store: Store, num_gops: int) -> Iterator[NDArray[np.uint8]]:
    for video, first in enumerate(store.videos.first_gop.tolist()):
        for index in range(min(int(store.videos.num_gops[video]), num_gops - first)):
            yield store.read_gop(store.videos.id(video), index).rebuild_frames()


def read_jpegs(store: Store, folder: Path, gops: Iterable[int]) -> None:
    """RGB frames of every clip from files, into batches."""
    batch = _rgb_batch(store)
    for i, gop in enumerate(gops):
        for number, frame in enumerate(batch[i % BATCH_SIZE]):
            with Image.open(folder / str(gop) / f"{number:03}.jpg") as image:
                frame[:] = np.asarray(image)


def read_tar(store: Store, tar: Path) -> None:
    """RGB frames of every clip from the archive, from beginning to end, into batches."""
    batch = _rgb_batch(store).reshape(-1, store.settings.height_px, store.settings.width_px, 3)
    with tarfile.open(tar, "r:") as archive:
        for number, member in enumerate(archive):
            file = archive.extractfile(member)
            if file is not None:
                with Image.open(io.BytesIO(file.read())) as image:
                    batch[number % len(batch)] = np.asarray(image)


def read_webdataset(store: Store, tar: Path) -> None:
    """The same through the library webdataset, one sample a clip's frame in its own way: no shuffling, no workers."""
    batch = _rgb_batch(store).reshape(-1, store.settings.height_px, store.settings.width_px, 3)
    webdataset: Any = importlib.import_module("webdataset")
    frames = webdataset.WebDataset(str(tar), shardshuffle=False).decode("rgb8").to_tuple("jpg")
    for number, (frame,) in enumerate(frames):
        batch[number % len(batch)] = frame


def _rgb_batch(store: Store) -> NDArray[np.uint8]:
    settings = store.settings
    return np.empty((BATCH_SIZE, settings.gop_size, settings.height_px, settings.width_px, 3), np.uint8)


class Floor:
    """What the machine itself takes: zstd of the very same chunks, and copying what is in them, from memory."""

    def __init__(self, store: Store, gops: Sequence[int], *, with_motion: bool) -> None:
        arrays = arrays_of(store, with_motion=with_motion)
        self._filled = [np.ones(array.chunk_bytes, np.uint8) for array in arrays]
        self._batch = [np.ones((BATCH_SIZE, array.chunk_bytes), np.uint8) for array in arrays]
        self._compression = store.settings.compression
        chunks = {gop: _read_chunks(store, gop, len(arrays)) for gop in set(gops)}
        self._clips = [chunks[gop] for gop in gops]

    def decompress(self) -> None:
        """Every chunk of every clip, over and over into the same memory, without zstd's own check: a limit."""
        decompressor = zstandard.ZstdDecompressor()
        for chunks in self._clips:
            for chunk, filled in zip(chunks, self._filled, strict=True):
                fill(filled.data, chunk, self._compression, decompressor)

    def copy(self) -> None:
        """What as many clips hold, into batches."""
        for i in range(len(self._clips)):
            for planes, filled in zip(self._batch, self._filled, strict=True):
                planes[i % BATCH_SIZE] = filled


def _read_chunks(store: Store, gop: int, num_chunks: int) -> list[memoryview]:
    place = store.places[gop]
    with (store.path / store.shards[int(place["shard"])].name).open("rb") as file:
        file.seek(int(place["offset"]))
        return [memoryview(bytearray(file.read(size))) for size in place["sizes"][:num_chunks].tolist()]
