"""The index of a store: index.json, videos.npz and gops.npy (DESIGN 4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import xxhash

from mfcd_core.atomic import replacing
from mfcd_core.errors import ChecksumError, StoreError
from mfcd_core.store.files import patiently
from mfcd_core.store.settings import FORMAT, FORMAT_VERSION, StoreSettings
from mfcd_core.store.videos import COLUMN_DTYPES, Videos, map_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

INDEX, VIDEOS, GOPS = "index.json", "videos.npz", "gops.npy"
AGAIN, LOOK = "run mfcd-prep extract again", "check the file system"
NO_LABEL = -1
NO_ROLE = -1


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the index knows it: file name, size, xxh3_128 of the whole file, and what it holds."""

    name: str
    num_bytes: int
    checksum: str
    num_videos: int
    num_gops: int


@dataclass(frozen=True, eq=False)
class Shards(Sequence[ShardEntry]):
    """The shards of a store by number: columns, from which an entry is made when it is asked for.

    Entries of thousands of shards would be a copy of their own in every process that reads. names, checksums: (S,)
    StringDType. num_bytes, num_videos, num_gops, first_video (row of the videos): (S,) int64.
    """

    names: NDArray[Any]
    num_bytes: NDArray[np.int64]
    checksums: NDArray[Any]
    num_videos: NDArray[np.int64]
    num_gops: NDArray[np.int64]
    first_video: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "first_video", np.cumsum(self.num_videos) - self.num_videos)

    @classmethod
    def collect(cls, entries: Collection[ShardEntry]) -> Shards:
        """The same entries as columns."""
        return cls(
            names=np.array([entry.name for entry in entries], np.dtypes.StringDType()),
            num_bytes=np.array([entry.num_bytes for entry in entries], np.int64),
            checksums=np.array([entry.checksum for entry in entries], np.dtypes.StringDType()),
            num_videos=np.array([entry.num_videos for entry in entries], np.int64),
            num_gops=np.array([entry.num_gops for entry in entries], np.int64),
        )

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, number: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[ShardEntry]: ...
    def __getitem__(self, number: int | slice) -> ShardEntry | Sequence[ShardEntry]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        sizes = (int(column[number]) for column in (self.num_videos, self.num_gops))
        return ShardEntry(self.name(number), int(self.num_bytes[number]), str(self.checksums[number]), *sizes)

    def name(self, number: int) -> str:
        """File name of a shard."""
        return str(self.names[number])

    def rows(self, number: int) -> slice:
        """Rows of the videos that a shard holds."""
        first = int(self.first_video[number])
        return slice(first, first + int(self.num_videos[number]))


@dataclass(frozen=True)
class StoreIndex:
    """Everything of a store that is not pixels.

    splits: per split name the roles of the videos: role -> (n,) int64 rows of `videos`. As read: checksum of
    index.json, and xxh3_128 of videos.npz and gops.npy as recorded there.
    """

    settings: StoreSettings
    classes: tuple[str, ...]
    shards: Shards
    videos: Videos
    splits: Mapping[str, Mapping[str, NDArray[np.int64]]]
    versions: Mapping[str, str]
    checksum: str = ""
    file_checksums: Mapping[str, str] = field(default_factory=dict)


def write_index(folder: Path, index: StoreIndex) -> None:
    """Write videos.npz, then index.json, last; gops.npy is there already. Each appears whole or not at all."""
    roles = {name: list(split) for name, split in index.splits.items()}
    _write_videos(folder / VIDEOS, index)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "settings": index.settings.to_dict(),
        "classes": list(index.classes),
        "splits": roles,
        "shards": [vars(shard) for shard in index.shards],
        "files": {name: file_checksum(folder / name) for name in (VIDEOS, GOPS)},
        "versions": dict(index.versions),
    }
    document["checksum"] = _document_checksum(document)
    with replacing(folder / INDEX) as part:
        part.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_videos(path: Path, index: StoreIndex) -> None:
    videos = index.videos
    columns: dict[str, NDArray[Any]] = {name: getattr(videos, name) for name in COLUMN_DTYPES}
    for name, split in index.splits.items():
        columns[f"split/{name}"] = roles = np.full(len(videos), NO_ROLE, np.int8)
        for role, rows in enumerate(split.values()):
            roles[rows] = role
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **columns)


def read_index(folder: Path, *, needs_places: bool = True) -> StoreIndex:
    """Read the index of a store; needs_places: only where gops.npy is there.

    Raises StoreError (missing, unreadable, higher version) or ChecksumError.
    """
    document = _read_document(folder)
    try:
        return patiently(lambda: _parse_index(folder, document, (VIDEOS, GOPS) if needs_places else (VIDEOS,)))
    except OSError as error:
        raise StoreError(f"{folder}: the index cannot be read ({error}); {LOOK}") from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"{folder}: the index is not usable ({error!r}); {AGAIN}") from None


def _parse_index(folder: Path, document: Mapping[str, Any], needed: Sequence[str]) -> StoreIndex:
    for name in needed:
        if not (folder / name).is_file():
            raise StoreError(f"{folder}: {name} is missing; {AGAIN}")
    if file_checksum(folder / VIDEOS) != document["files"][VIDEOS]:
        raise ChecksumError(f"{folder / VIDEOS}: other bytes than index.json recorded; {AGAIN}")
    columns = map_columns(folder / VIDEOS)
    videos = Videos(**{name: columns[name] for name in COLUMN_DTYPES})
    videos.require_sound(len(document["classes"]))
    splits = {
        name: _parse_split(columns[f"split/{name}"], roles, len(videos)) for name, roles in document["splits"].items()
    }
    return StoreIndex(
        settings=StoreSettings.from_dict(document["settings"]),
        classes=tuple(document["classes"]),
        shards=Shards.collect([_parse_shard(entry) for entry in document["shards"]]),
        videos=videos,
        splits=splits,
        versions=document["versions"],
        checksum=document["checksum"],
        file_checksums=document["files"],
    )


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        document = json.loads(patiently(lambda: path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StoreError(f"{folder}: no {INDEX}; expected a store made by mfcd-prep extract (or finish it)") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error}); {LOOK}") from None
    except ValueError as error:
        raise StoreError(f"{path}: not readable ({error}); {AGAIN}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StoreError(f"{path}: not the index of a store; expected JSON of format {FORMAT!r}")
    version = document.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise StoreError(f"{path}: format version {version!r}, this reader knows {FORMAT_VERSION}; update mfcd")
    checksum = document.pop("checksum", None)
    if checksum != _document_checksum(document):
        raise ChecksumError(f"{path}: its checksum does not match its text; {AGAIN}")
    return document | {"checksum": checksum}


def _parse_split(column: NDArray[np.int8], roles: Sequence[str], num_videos: int) -> dict[str, NDArray[np.int64]]:
    if column.dtype != np.int8 or column.shape != (num_videos,):
        raise ValueError(f"roles of a split: {column.shape} of {column.dtype}, expected int8, one a video")
    return {role: np.flatnonzero(column == i) for i, role in enumerate(roles)}


def _parse_shard(entry: Mapping[str, Any]) -> ShardEntry:
    name = entry["name"]
    if Path(name).name != name or not name.endswith(".h5"):
        raise StoreError(f"shard name {name!r} in index.json: expected a file name within the store")
    return ShardEntry(**{key: entry[key] for key in ShardEntry.__dataclass_fields__})


def _document_checksum(document: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(document, sort_keys=True, ensure_ascii=False).encode())


def file_checksum(path: Path) -> str:
    """xxh3_128 of a whole file, hexadecimal."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def split_rows(
    videos: Videos, splits: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Rows of `videos` for the ids of each split and role."""
    row_of = {str(video_id): row for row, video_id in enumerate(videos.ids)}
    return {
        name: {role: np.array([row_of[i] for i in ids if i in row_of], np.int64) for role, ids in split.items()}
        for name, split in splits.items()
    }
