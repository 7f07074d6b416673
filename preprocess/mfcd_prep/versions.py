"""The library versions that the bytes of a shard depend on: one set of them makes a store (DESIGN 4)."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

import h5py
import xxhash

from mfcd_core.atomic import replacing
from mfcd_core.errors import VersionsError
from mfcd_prep.decode import DECODERS
from mfcd_prep.output import output_faults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mfcd_core.store.settings import StoreSettings

PACKAGES = ("mfcd", "h5py", "hdf5plugin", "numpy", "zstandard")
Versions = dict[str, str]


def library_versions(decoder: str) -> Versions:
    """Versions that the bytes of a shard depend on."""
    packages = (*PACKAGES, DECODERS[decoder].package)
    return {**{name: version(name) for name in packages}, "hdf5": h5py.version.hdf5_version}


def compare_versions(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[str, str]:
    """What differs, as each side has it, for a message: ("h5py 3.15.1", "h5py 3.16.0"); empty where all are equal."""
    names = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    ours, theirs = (", ".join(f"{name} {side.get(name, '(none)')}" for name in names) for side in (here, there))
    return ours, theirs


def require_versions(expected: Mapping[str, str], decoder: str) -> None:
    """Raise VersionsError where this process has other versions than the run whose shards it is to make."""
    here, there = compare_versions(library_versions(decoder), expected)
    if here:
        raise VersionsError(
            f"a worker on {socket.gethostname()} has {here}, this run has {there}: "
            "install the same versions there, then run again"
        )


def join_parts(journal: Path, settings: StoreSettings, versions: Versions, *, is_first: bool = True) -> None:
    """Join the parts that make shards of these settings: the first one records its versions in the journal's folder.

    is_first: whether this one may be the first; else it only compares.

    Raises:
        VersionsError: the parts before have others; shards of both would never make a store.
    """
    content = json.dumps(settings.to_dict(), sort_keys=True)
    path = journal / f"versions-{xxhash.xxh3_64_hexdigest(content.encode())}.json"
    if is_first and not path.exists():
        with output_faults(journal), replacing(path) as part:
            part.write_text(json.dumps(versions))
    with suppress(FileNotFoundError):  # or all the others ended just now: there is nobody to differ from
        _require_same(versions, path)


def _require_same(versions: Versions, path: Path) -> None:
    here, there = compare_versions(versions, json.loads(path.read_text()))
    if here:
        raise VersionsError(
            f"this part has {here}, the parts before it {there}: install the same versions here, "
            f"or delete {path} to make all shards with these"
        )


def end_parts(journal: Path) -> None:
    """All parts are done: the next ones may have other versions."""
    for path in journal.glob("versions-*.json"):
        path.unlink(missing_ok=True)
