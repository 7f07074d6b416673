"""The index: what comes back from it, and that a damaged, foreign or newer one is refused in one line."""

from __future__ import annotations

import errno
import io
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import write_store

from mfcd_core.errors import ChecksumError, MfcdError, StoreError
from mfcd_core.store import Store
from mfcd_core.store.index import (
    GOPS,
    INDEX,
    NO_LABEL,
    VIDEOS,
    ShardEntry,
    Shards,
    _document_checksum,
    file_checksum,
    read_index,
    split_rows,
)
from mfcd_core.store.videos import Videos

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from synthetic import StoredGop

    from mfcd_core.store.settings import StoreSettings


def videos_named(*ids: str) -> Videos:
    ones = np.ones(len(ids), np.int64)
    return Videos.collect(sorted(ids), np.full(len(ids), NO_LABEL, np.int32), ones, ones)


def rewrite(folder: Path, *, forged: bool, **changes: Any) -> None:  # noqa: ANN401
    """Change keys of index.json (None removes one); `forged`: with a checksum that fits."""
    document = json.loads((folder / INDEX).read_text("utf-8"))
    document.update(changes)
    document = {key: value for key, value in document.items() if value is not None}
    if forged:
        document.pop("checksum")
        document["checksum"] = _document_checksum(document)
    (folder / INDEX).write_text(json.dumps(document), "utf-8")


def forge_videos(folder: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Other columns of videos, with checksums that fit."""
    np.savez(folder / VIDEOS, **columns)
    rewrite(folder, forged=True, files={name: file_checksum(folder / name) for name in (VIDEOS, GOPS)})


def test_everything_comes_back(store_folder: Path, settings: StoreSettings) -> None:
    index = read_index(store_folder)
    assert index.settings == settings
    assert index.classes == ("jump", "walk")
    assert index.videos.ids.tolist() == ["jump/a", "jump/b c", "walk/v", "walk/ü-跳", "y"]
    assert index.videos.labels.tolist() == [0, 0, 1, 1, NO_LABEL]
    assert index.videos.num_gops.tolist() == [2, 1, 2, 3, 1]
    assert index.videos.num_frames.tolist() == [8, 4, 8, 12, 3]
    assert index.videos.first_gop.tolist() == [0, 2, 3, 5, 8]
    assert {role: rows.tolist() for role, rows in index.splits["first"].items()} == {"train": [0, 2], "test": [3]}
    assert [(shard.name, shard.num_videos, shard.num_gops) for shard in index.shards] == [
        ("shard-00000.h5", 2, 3),
        ("shard-00001.h5", 2, 5),
        ("shard-00002.h5", 1, 1),
    ]


def test_the_same_store_has_the_same_index(
    store_folder: Path, settings: StoreSettings, videos: dict[str, list[StoredGop]], tmp_path: Path
) -> None:
    splits = {"first": {"train": ["jump/a", "walk/v"], "test": ["walk/ü-跳"]}}
    again = write_store(tmp_path / "again", settings, videos, splits)
    for name in (INDEX, VIDEOS, GOPS, "shard-00000.h5", "shard-00001.h5", "shard-00002.h5"):
        assert (again / name).read_bytes() == (store_folder / name).read_bytes(), name


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True), st.data())
def test_a_row_is_found_by_id(ids: list[str], data: st.DataObject) -> None:
    videos = videos_named(*ids)
    wanted = data.draw(st.sampled_from(ids))
    assert videos.ids[videos.row_of(wanted)] == wanted


def test_an_unknown_id_is_named_with_an_example() -> None:
    with pytest.raises(StoreError, match="no video 'c' in the store: expected one of its 2 ids, for example 'a'"):
        videos_named("a", "b").row_of("c")
    with pytest.raises(StoreError, match="its 0 ids"):
        videos_named().row_of("c")


def test_split_rows_leave_out_videos_that_the_store_does_not_have() -> None:
    rows = split_rows(videos_named("a", "b", "c"), {"s": {"train": ["c", "gone", "a"], "test": []}})
    assert {role: found.tolist() for role, found in rows["s"].items()} == {"train": [2, 0], "test": []}


def test_unknown_keys_are_ignored(store_folder: Path) -> None:
    document = json.loads((store_folder / INDEX).read_text("utf-8"))
    settings = {**document["settings"], "new": 1}
    shards = [{**shard, "new": 1} for shard in document["shards"]]
    rewrite(store_folder, forged=True, new=1, settings=settings, shards=shards)
    assert Store(store_folder).read_gop("y", 0).real_frames == 3


def test_no_index_means_extract_is_not_finished(store_folder: Path) -> None:
    (store_folder / INDEX).unlink()
    with pytest.raises(StoreError, match=r"no index\.json; expected a store made by mfcd-prep extract"):
        Store(store_folder)


def test_a_higher_version_is_refused_with_what_to_do(store_folder: Path) -> None:
    rewrite(store_folder, forged=False, format_version=2, settings={"unheard": "of"})
    with pytest.raises(StoreError, match="format version 2, this reader knows 1; update mfcd"):
        Store(store_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "{}", '{"format": "mfcd-store"}', "\udcff"])
def test_other_files_are_refused(store_folder: Path, text: str) -> None:
    (store_folder / INDEX).write_text(text, "utf-8", errors="surrogateescape")
    with pytest.raises(StoreError):
        Store(store_folder)


@pytest.mark.parametrize("changes", [{"classes": ["jump", "wall"]}, {"splits": {}}, {"checksum": None}])
def test_an_edited_index_is_refused(store_folder: Path, changes: dict[str, Any]) -> None:
    rewrite(store_folder, forged=False, **changes)
    with pytest.raises(ChecksumError, match="checksum does not match"):
        Store(store_folder)


@pytest.mark.parametrize("key", ["settings", "classes", "splits", "shards", "files", "versions", "format_version"])
@pytest.mark.parametrize("value", [None, 7.5], ids=["missing", "number"])
def test_a_forged_index_costs_one_line(store_folder: Path, key: str, value: object) -> None:
    rewrite(store_folder, forged=True, **{key: value})
    if (key, value) == ("versions", 7.5):
        return  # nothing reads it
    with pytest.raises(StoreError):
        Store(store_folder)


@pytest.mark.parametrize("name", ["../shard-00000.h5", "/etc/passwd", "a/b.h5", "index.json", ".."])
def test_shards_outside_the_store_are_refused(store_folder: Path, name: str) -> None:
    document = json.loads((store_folder / INDEX).read_text("utf-8"))
    document["shards"][0]["name"] = name
    rewrite(store_folder, forged=True, shards=document["shards"])
    with pytest.raises(StoreError, match="expected a file name within the store"):
        Store(store_folder)


@pytest.mark.parametrize("name", [VIDEOS, GOPS])
def test_missing_and_damaged_tables_are_refused(store_folder: Path, name: str) -> None:
    data = (store_folder / name).read_bytes()
    for damaged in (data[:-1], data + b"\0", b"", data[:200] + b"\xff" + data[201:]):
        (store_folder / name).write_bytes(damaged)
        with pytest.raises(ChecksumError, match=f"{name}: other bytes than index.json recorded"):
            Store(store_folder)
    (store_folder / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing; run mfcd-prep extract again"):
        Store(store_folder)


def test_no_pickle_is_executed(store_folder: Path) -> None:
    np.savez(store_folder / VIDEOS, id_bytes=np.array([print], object), id_sizes=np.zeros(0, np.int64))
    files = {name: file_checksum(store_folder / name) for name in (VIDEOS, GOPS)}
    rewrite(store_folder, forged=True, files=files)
    with pytest.raises(StoreError, match=r"id_bytes\.npy holds object: expected numbers"):
        Store(store_folder)


FORGED_COLUMNS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "id_bytes": lambda column: column.astype(np.int16),
    "id_sizes": lambda column: column[:, None],
    "labels": lambda column: column + 2,  # of two classes
    "num_gops": lambda column: column.astype([("a", "<i8")]),
    "num_frames": lambda column: column[:-1],
    "split/first": lambda column: np.append(column, column),
}


@pytest.mark.parametrize("name", FORGED_COLUMNS)
def test_forged_columns_of_videos_are_refused(store_folder: Path, name: str) -> None:
    with np.load(store_folder / VIDEOS) as archive:
        columns = dict(archive)
    forge_videos(store_folder, columns)
    Store(store_folder)
    forge_videos(store_folder, columns | {name: FORGED_COLUMNS[name](columns[name])})
    with pytest.raises(StoreError, match="the index is not usable"):
        Store(store_folder)


def test_an_id_that_is_no_text_is_named(store_folder: Path) -> None:
    with np.load(store_folder / VIDEOS) as archive:
        columns = dict(archive)
    forge_videos(store_folder, columns | {"id_bytes": np.full_like(columns["id_bytes"], 0xFF)})
    with pytest.raises(StoreError, match=r"the id of the video in row 2 is .*: expected UTF-8"):
        Store(store_folder).videos.row_of("walk/v")


def test_a_store_that_was_sent_elsewhere_is_that_store(store_folder: Path) -> None:
    """Rows of one extraction would be other samples of the next."""
    reopen, arguments = Store(store_folder).__reduce__()
    assert reopen(*arguments).videos.ids.tolist() == Store(store_folder).videos.ids.tolist()
    rewrite(store_folder, forged=True, versions={"av": "0"})
    with pytest.raises(StoreError, match="extracted again since the process that sent it here opened it"):
        reopen(*arguments)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_in_the_index_is_noticed_or_means_nothing(store_folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = json.loads((store_folder / INDEX).read_text("utf-8"))
    data = (store_folder / INDEX).read_bytes()
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        (store_folder / INDEX).write_bytes(damaged)
        with suppress(MfcdError):
            Store(store_folder)
            assert json.loads(damaged) == before


def test_shards_are_entries_by_number(store_folder: Path) -> None:
    """Columns inside, entries outside: the same as what is written down, from either end, in parts and in a loop."""
    shards, written = read_index(store_folder).shards, json.loads((store_folder / INDEX).read_text("utf-8"))["shards"]
    assert [vars(entry) for entry in shards] == written
    assert [vars(entry) for entry in Shards.collect(list(shards))] == written
    assert (shards[-1], shards[1:]) == (ShardEntry(**written[2]), [ShardEntry(**entry) for entry in written[1:]])
    assert [shards.rows(number) for number in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert len(Shards.collect([])) == 0
    with pytest.raises(IndexError):
        shards[3]


@pytest.mark.parametrize("count", [None, "many", 1 << 70])
def test_a_forged_count_of_a_shard_costs_one_line(store_folder: Path, count: object) -> None:
    shards = json.loads((store_folder / INDEX).read_text("utf-8"))["shards"]
    rewrite(store_folder, forged=True, shards=[{**shards[0], "num_gops": count}, *shards[1:]])
    with pytest.raises(StoreError, match="the index is not usable"):
        Store(store_folder)


@pytest.mark.parametrize("name", [INDEX, VIDEOS, GOPS])
@pytest.mark.parametrize(
    ("num_failures", "number"), [(1, errno.EIO), (4, errno.ESTALE), (9, errno.EIO), (1, errno.EACCES)]
)
def test_troubles_of_the_file_system_pass_or_are_said(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, num_failures: int, number: int
) -> None:
    """Not one of them is a reason to extract again."""
    monkeypatch.setattr("mfcd_core.store.files.time.sleep", lambda _: None)
    opened, left = io.open, [num_failures]

    def troubled(path: Path, *args: object, **options: object) -> object:
        if Path(path).name == name and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return opened(path, *args, **options)

    monkeypatch.setattr(io, "open", troubled)
    if number != errno.EACCES and num_failures <= 4:
        assert len(Store(store_folder).videos) == 5
    else:
        with pytest.raises(StoreError, match=r"cannot be read \(.*\); check the file system"):
            Store(store_folder)
