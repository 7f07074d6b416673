"""Checking a store without the videos it came from: structure, counts, checksums, places (DESIGN 4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from mfcd_core.errors import StoreError
from mfcd_core.store.index import AGAIN, GOPS, INDEX, file_checksum, read_index
from mfcd_core.store.layout import read_shard_file, require_adjacent
from mfcd_core.store.places import open_places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.store.index import ShardEntry, StoreIndex
    from mfcd_core.store.layout import Shard


@dataclass(frozen=True)
class Finding:
    """Something wrong with a store: where, as far as it is known, and what."""

    problem: str
    shard: str | None = None
    video: str | None = None
    gop_index: int | None = None

    def __str__(self) -> str:
        gop = None if self.gop_index is None else f"GOP {self.gop_index}"
        return ": ".join(str(part) for part in (self.shard, self.video, gop, self.problem) if part is not None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def verify_index(folder: Path) -> Iterator[Finding]:
    """Check index.json, videos.npz and gops.npy against each other and against the files that are there."""
    try:
        index = read_index(folder)
    except StoreError as error:
        yield Finding(str(error).removeprefix(f"{folder / INDEX}: "), shard=INDEX)
        return
    try:
        open_places(folder, index)
    except StoreError as error:
        yield Finding(str(error).removeprefix(f"{folder / GOPS}: "), shard=GOPS)
    if index.shards.num_videos.sum() != len(index.videos):
        yield Finding(f"shards hold other videos than the {len(index.videos)} of the index", shard=INDEX)
    if index.shards.num_gops.sum() != index.videos.num_gops.sum():
        yield Finding(f"shards hold other GOPs than the {int(index.videos.num_gops.sum())} of the index", shard=INDEX)
    known = set(index.shards.names.tolist())
    for path in sorted(folder.glob("*.h5")):
        if path.name not in known:
            yield Finding("is not in the index; delete it, it is no part of the store", shard=path.name)


def check_file(folder: Path, entry: ShardEntry) -> Finding | None:
    """What is wrong with a shard's file as a whole; None where it has the very bytes that the index recorded."""
    path, problem = folder / entry.name, None
    try:
        if path.stat().st_size != entry.num_bytes:
            problem = f"{path.stat().st_size} bytes, expected {entry.num_bytes}"
        elif file_checksum(path) != entry.checksum:
            problem = "other bytes than the index recorded"
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); look after the disk"
    return None if problem is None else Finding(problem, shard=entry.name)


def verify_shard(folder: Path, index: StoreIndex, number: int, places: NDArray[Any]) -> Iterator[Finding]:
    """Check one shard: bytes, tables, counts, places as in gops.npy (`places`, its rows of this shard), chunks."""
    entry = index.shards[number]
    path = folder / entry.name
    if damage := check_file(folder, entry):
        yield damage
    if not path.is_file():
        return
    try:
        shard = read_shard_file(path)
        require_adjacent(path, shard.places)
    except StoreError as error:
        yield Finding(str(error).removeprefix(f"{entry.name}: "), shard=entry.name)
        return
    yield from _check_tables(index, number, shard)
    yield from _check_places(entry.name, shard, number, places)
    yield from _check_chunks(path, shard)


def _check_tables(index: StoreIndex, number: int, shard: Shard) -> Iterator[Finding]:
    name, rows = index.shards.name(number), index.shards.rows(number)
    if shard.settings != index.settings:
        yield Finding("other settings than the index", shard=name)
    if shard.ids != [str(video_id) for video_id in index.videos.ids[rows]]:
        yield Finding("other videos than the index", shard=name)
    for column in ("num_gops", "num_frames"):
        if not np.array_equal(shard.videos[column], getattr(index.videos, column)[rows]):
            yield Finding(f"other {column} than the index", shard=name)


def _check_places(name: str, shard: Shard, number: int, places: NDArray[Any]) -> Iterator[Finding]:
    same = len(places) == len(shard.gops) and bool((places["shard"] == number).all())
    for column in (places.dtype.names or ())[1:]:
        same = same and np.array_equal(places[column], shard.gops[column])
    same = same and np.array_equal(shard.places[:, 0, 0], shard.gops["offset"])
    if not (same and np.array_equal(shard.places[:, :, 1], shard.gops["sizes"])):
        yield Finding(f"chunks lie elsewhere, or are others, than gops.npy says; {AGAIN}", shard=name)


def _check_chunks(path: Path, shard: Shard) -> Iterator[Finding]:
    names = [array.name for array in shard.settings.stored_arrays()]
    with path.open("rb") as file:
        for gop, places in zip(shard.gops, shard.places, strict=True):
            for name, checksum, (offset, size) in zip(names, gop["checksums"], places, strict=True):
                file.seek(offset)
                if xxhash.xxh3_64_intdigest(file.read(size)) != checksum:
                    where = {"video": shard.ids[gop["video"]], "gop_index": int(gop["position"])}
                    yield Finding(f"{name} has other bytes than were written", shard=path.name, **where)
