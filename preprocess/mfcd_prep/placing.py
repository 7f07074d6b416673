"""Shards into their places under their numbers, when all of them are there; no kill at any step loses one."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mfcd_core.errors import OutputError
from mfcd_core.store.index import INDEX
from mfcd_prep.shards import waiting_path
from mfcd_prep.workspace import others_at_work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mfcd_prep.journal import Journal
    from mfcd_prep.shards import ShardRecord, ShardTask

Placed = tuple["ShardTask", "ShardRecord"]


def place_shards(store: Path, present: Sequence[Placed], journal: Journal) -> None:
    """Rename each shard to its number: all that move are set aside under their keys, recorded, then put in place.

    `ShardRecord.find` knows them at every step. Two runs that do this at once find each other's work done.

    Raises:
        OutputError: a shard that was recorded is gone.
    """
    moves = [(task, record) for task, record in present if _found(store, record) != store / task.name]
    if not moves:
        return
    (store / INDEX).unlink(missing_ok=True)  # it speaks of shards that are about to change
    waiting_path(store, "").parent.mkdir(parents=True, exist_ok=True)
    for task, record in moves:
        path = _found(store, record)
        if path.parent == store and path.name != task.name:
            with suppress(FileNotFoundError):  # another run was quicker
                path.rename(waiting_path(store, task.key))
    for task, record in moves:
        if record.name != task.name:
            journal.append(replace(record, name=task.name).to_dict())
    for task, record in moves:
        _put(waiting_path(store, task.key), store / task.name, record)


def _found(store: Path, record: ShardRecord) -> Path:
    path = record.find(store)
    if path is None:
        raise OutputError(f"{record.name} of {store} was recorded, but is gone: run the same command again")
    return path


def _put(source: Path, target: Path, record: ShardRecord) -> None:
    try:
        source.rename(target)
    except FileNotFoundError:
        _found(target.parent, replace(record, name=target.name))  # another run was quicker, or it is gone


def remove_strays(store: Path, names: set[str]) -> None:
    """Remove shards that the index does not name, and, where nobody else is at work, what a killed run left waiting."""
    if not others_at_work(store):
        shutil.rmtree(waiting_path(store, "").parent, ignore_errors=True)
    for path in store.glob("shard-*.h5"):
        if path.name not in names:
            path.unlink(missing_ok=True)
