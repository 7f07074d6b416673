"""videos.npz of a store: one row a video, in memory that the processes of a machine share (DESIGN 4)."""

from __future__ import annotations

import bisect
import os
from dataclasses import dataclass
from functools import cached_property
from tokenize import TokenError
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy

from mfcd_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO
    from zipfile import ZipInfo

    from numpy.typing import NDArray

IDS_AT_ONCE = 4096
HEADER_BYTES, NAME_AND_EXTRA = 30, (26, 28)  # of a member of a zip file: where the sizes of what follows it are
COLUMN_DTYPES = {"id_bytes": "u1", "id_sizes": "<i8", "labels": "<i4", "num_gops": "<i8", "num_frames": "<i8"}
NO_ARRAYS = (BadZipFile, NotImplementedError, KeyError, TypeError, SyntaxError, TokenError)  # what damage leads to
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class Videos:
    """One row a video, sorted by id.

    labels: (V,) int32 rows of `Store.classes`, -1 where there is none. num_gops, num_frames (real frames stored): (V,)
    int64. id_bytes, uint8, are all ids in UTF-8, and id_sizes, (V,) int64, their lengths.
    """

    id_bytes: NDArray[np.uint8]
    id_sizes: NDArray[np.int64]
    labels: NDArray[np.int32]
    num_gops: NDArray[np.int64]
    num_frames: NDArray[np.int64]

    @classmethod
    def collect(
        cls, ids: Sequence[str], labels: NDArray[np.int32], num_gops: NDArray[np.int64], num_frames: NDArray[np.int64]
    ) -> Videos:
        """The same with ids as text."""
        text = [str(video_id).encode() for video_id in ids]
        id_sizes = np.array([len(t) for t in text], np.int64)
        return cls(np.frombuffer(b"".join(text), np.uint8), id_sizes, labels, num_gops, num_frames)

    def __len__(self) -> int:
        return len(self.id_sizes)

    @cached_property
    def first_gop(self) -> NDArray[np.int64]:
        """Rows of gops.npy at which the videos begin, (V,) int64."""
        first: NDArray[np.int64] = np.cumsum(self.num_gops) - self.num_gops
        return first

    @cached_property
    def ids(self) -> NDArray[Any]:
        """All ids, (V,) StringDType: memory of this process, from the first time that they are asked for."""
        ids = np.empty(len(self), np.dtypes.StringDType())
        for first in range(0, len(self), IDS_AT_ONCE):  # as objects of Python they take several times the memory
            rows = range(first, min(first + IDS_AT_ONCE, len(self)))
            ids[rows.start : rows.stop] = [self.id(row) for row in rows]
        return ids

    def id(self, row: int) -> str:
        """The id of one video. Raises StoreError for what is no text."""
        end = int(self._id_ends[row])
        text = self.id_bytes[end - int(self.id_sizes[row]) : end].tobytes()
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise StoreError(f"the id of the video in row {row} is {text!r}: expected UTF-8") from None

    def require_sound(self, num_classes: int) -> None:
        """Raises ValueError unless every column has its type, a row a video, and values that can be."""
        for name, dtype in COLUMN_DTYPES.items():
            column = getattr(self, name)
            if column.dtype != dtype or column.ndim != 1 or (name != "id_bytes" and len(column) != len(self)):
                raise ValueError(f"{name} of videos: {column.shape} of {column.dtype}, expected {dtype}, one a video")
        counts = [column.min(initial=0) for column in (self.id_sizes, self.num_gops, self.num_frames)]
        labels = (self.labels.min(initial=-1), self.labels.max(initial=-1))
        if min(counts) < 0 or labels[0] < -1 or labels[1] >= num_classes or self.id_sizes.sum() != len(self.id_bytes):
            raise ValueError(f"videos: a count below 0, ids of other sizes, or a label that is none of {num_classes}")

    def row_of(self, video_id: str) -> int:
        """Row of a video. Raises StoreError where the store has no such id."""
        row = bisect.bisect_left(range(len(self)), video_id, key=self.id)
        if row == len(self) or self.id(row) != video_id:
            example = f", for example {self.id(0)!r}" if len(self) else ""
            raise StoreError(f"no video {video_id!r} in the store: expected one of its {len(self)} ids{example}")
        return row

    @cached_property
    def _id_ends(self) -> NDArray[np.int64]:
        return np.cumsum(self.id_sizes)


def map_columns(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an uncompressed .npz file by name, memory-mapped, read-only.

    Raises OSError, or ValueError for what is no such file.
    """
    with path.open("rb") as file:
        try:
            members = ZipFile(file).infolist()
            return {member.filename.removesuffix(".npy"): _map_array(file, member) for member in members}
        except NO_ARRAYS as error:
            raise ValueError(f"{path.name} does not hold arrays ({error!r})") from None


def _map_array(file: BinaryIO, member: ZipInfo) -> NDArray[Any]:
    if member.compress_type != ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    file.seek(member.header_offset)
    header = file.read(HEADER_BYTES)
    file.seek(sum(int.from_bytes(header[start : start + 2], "little") for start in NAME_AND_EXTRA), os.SEEK_CUR)
    shape, is_fortran, dtype = READERS[npy.read_magic(file)](file)
    if is_fortran or dtype.hasobject:
        raise ValueError(f"{member.filename} holds {dtype}: expected numbers, in C order")
    return np.memmap(file, dtype, "r", file.tell(), shape).view(np.ndarray)
