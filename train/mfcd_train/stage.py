"""`--stage`: shards read from a node's own disk as soon as copies of them are there (docs/clusters.md)."""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import numpy as np
import xxhash

from mfcd_core.console import warn
from mfcd_core.errors import UsageError
from mfcd_train.copier import FOLDER, Copier, StageFolder, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from mfcd_core.store import Store
    from mfcd_core.store.index import ShardEntry

STOP_SECONDS = 10.0
UNITS = {"": 1, **{f"{p}{b}": base**n for n, p in enumerate("KMGT", 1) for b, base in (("B", 1000), ("iB", 1024))}}
"""Units of bytes, as they are typed."""


Command = TypeVar("Command", bound="Callable[..., object]")


def stage_options(command: Command) -> Command:
    """Add --stage and --stage-limit to a command."""
    limit = "Bytes that may lie there, such as 200GB. Default: a tenth of its disk is left free."
    command = click.option("--stage-limit", metavar="SIZE", callback=_parse_bytes, help=limit)(command)
    where = "Folder on a local disk: the shards that are needed are copied there meanwhile, and then read from there."
    return click.option("--stage", type=click.Path(path_type=Path), metavar="DIR", is_eager=True, help=where)(command)


def _parse_bytes(context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([A-Za-z]*)", value)
    if not found or found[2] not in UNITS:
        raise click.BadParameter(f"{value!r}, expected bytes with a unit such as {', '.join(UNITS)[2:]}")
    if not context.params.get("stage"):
        raise click.BadParameter("expected with --stage DIR alone")
    return int(float(found[1]) * UNITS[found[2]])


class StagedShards:
    """Whole copies in a folder, found as soon as they have their names (see `mfcd_core.store.files.Copies`)."""

    def __init__(self, folder: Path, shards: Sequence[ShardEntry]) -> None:
        self._folder = folder
        self._sizes = {shard.name: shard.num_bytes for shard in shards}
        self._found: dict[str, Path] = {}
        self._given_up: set[str] = set()

    def find(self, name: str) -> Path | None:
        """Path of the copy of a shard, of the right size; None where there is none yet."""
        found = self._found.get(name)
        if found is None and name not in self._given_up and size_of(f"{self._folder}/{name}") == self._sizes.get(name):
            found = self._found[name] = self._folder / name
        return found

    def give_up(self, name: str, error: Exception) -> bool:
        """Remove a copy that could not be read, where its disk still lets us, and warn; False where there was none."""
        if name in self._found:
            self._given_up.add(name)  # first: other threads may be reading it too
            path = self._found.pop(name, None)
            if path is not None:
                warn(f"{error}; this copy is {_remove(path)}, and {name} is read from the store")
        return name in self._given_up


def _remove(path: Path) -> str:
    """What became of it: a disk that gives read errors is often made read-only."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"left alone ({error.strerror})"
    return "removed"


def shards_of(store: Store, *videos: NDArray[np.int64]) -> list[ShardEntry]:
    """The shards that hold the videos in these rows, by number."""
    numbers = np.unique(store.places["shard"][store.videos.first_gop[np.concatenate(videos)]])
    return [store.shards[number] for number in numbers.tolist()]


@contextmanager
def staged(
    store: Store, *videos: NDArray[np.int64], stage: Path | None, stage_limit: int | None = None, tells: bool = True
) -> Iterator[Store]:
    """The store, read from copies in the folder `stage` as soon as they are there; a thread makes them meanwhile.

    videos: rows of those that will be read; only their shards are copied. stage: None leaves the store as it is.
    stage_limit: of all that lies in `stage`, in bytes; None leaves a tenth of the disk free. tells: whether to print
    what becomes of it, as one process a node should. Raises UsageError where `stage` cannot be written.
    """
    if stage is None:
        yield store
        return
    shards = shards_of(store, *videos)
    folder = StageFolder(_make_folder(stage, store), store, stage_limit)
    nearer = store.beside(StagedShards(folder.path, shards))
    copier = Copier(folder, shards, tells)
    thread = threading.Thread(target=copier.run, name="stage", daemon=True)
    thread.start()
    try:
        yield nearer
    finally:
        copier.stop.set()
        thread.join(STOP_SECONDS)
        folder.close()


def _make_folder(stage: Path, store: Store) -> Path:
    """A folder for these very shards: a corrected label or split changes none of them."""
    key = xxhash.xxh3_64_hexdigest("".join(f"{s.name} {s.num_bytes} {s.checksum}\n" for s in store.shards).encode())
    folder = stage.absolute() / f"{FOLDER}{key}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--stage {stage}: {error.strerror}; expected a folder on a local disk") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--stage {stage}: {folder} cannot be written; expected a folder of your own")
    return folder
