"""One set of library versions a store: a worker, or a part, that has others refuses in one line."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mfcd_core.errors import VersionsError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_prep import extract, indexing, shards, versions
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.part import Part
from mfcd_prep.versions import compare_versions, end_parts, join_parts, library_versions, require_versions
from mfcd_prep.workers import IN_THIS_PROCESS, OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE_EACH = ExtractOptions(shard_gops=1)
NOW = library_versions("pyav")
OLD = NOW | {"h5py": "2.0.0", "numpy": "1.0"}


def set_versions(patch: pytest.MonkeyPatch, found: dict[str, str], *modules: object) -> None:
    """What these modules believe to be installed."""
    for module in modules:
        patch.setattr(module, "library_versions", lambda _: found)


def as_another_machine(patch: pytest.MonkeyPatch) -> None:
    set_versions(patch, OLD, versions, shards, extract, indexing)


def test_what_differs_is_named_alone() -> None:
    assert compare_versions(NOW, NOW) == ("", "")
    assert compare_versions(OLD, NOW) == ("h5py 2.0.0, numpy 1.0", f"h5py {NOW['h5py']}, numpy {NOW['numpy']}")
    assert compare_versions({"a": "1"}, {"b": "2"}) == ("a 1, b (none)", "a (none), b 2")


def test_the_libraries_that_write_bytes_are_counted() -> None:
    assert {"mfcd", "h5py", "hdf5", "hdf5plugin", "numpy", "zstandard", "av"} <= set(NOW)
    assert "motion-vector-extractor" in library_versions("mv-extractor")


def test_a_worker_with_the_same_versions_joins() -> None:
    require_versions(dict(NOW), "pyav")


@pytest.mark.parametrize("workers", [IN_THIS_PROCESS, OnThisMachine(2)], ids=["here", "processes"])
def test_a_worker_with_other_versions_stops_the_run(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: OnThisMachine
) -> None:
    """The driver's are others here, so that workers in processes of their own differ too."""
    set_versions(monkeypatch, OLD, extract)
    expected = (
        f"has h5py {NOW['h5py']}, numpy {NOW['numpy']}, this run has h5py 2.0.0, numpy 1.0: "
        "install the same versions there, then run again"
    )
    with pytest.raises(VersionsError, match=re.escape(expected)):
        extract_videos(encoded, tmp_path / "store", ONE_EACH, workers=workers)
    assert not list((tmp_path / "store").rglob("*.h5"))
    monkeypatch.undo()
    assert extract_videos(encoded, tmp_path / "store", ONE_EACH).num_shards_made == 5


def test_a_part_with_other_versions_refuses_in_one_line(
    encoded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "store"
    extract_videos(encoded, store, ONE_EACH, part=Part(1, 2))
    before = sorted(store.rglob("*"))
    with monkeypatch.context() as patch:
        as_another_machine(patch)
        command = ("extract", encoded, store, "--shard-gops", "1", "--jobs", "1", "--part", "2/2")
        assert run_command(*command) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    both = f"this part has h5py 2.0.0, numpy 1.0, the parts before it h5py {NOW['h5py']}, numpy {NOW['numpy']}: "
    assert last.startswith(f"error: {both}install the same versions here, or delete {store}")
    assert sorted(path for path in store.rglob("*") if path.suffix == ".h5") == [p for p in before if p.suffix == ".h5"]
    assert extract_videos(encoded, store, ONE_EACH, part=Part(2, 2)).num_shards_pending == 0
    assert Store(store).versions == NOW


def test_deleting_the_file_that_is_named_begins_anew(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    extract_videos(encoded, store, ONE_EACH, part=Part(1, 2))
    as_another_machine(monkeypatch)
    with pytest.raises(VersionsError, match="or delete ") as raised:
        extract_videos(encoded, store, ONE_EACH, part=Part(2, 2))
    (named,) = (path for path in store.rglob("*.json") if str(path) in str(raised.value))
    named.unlink()
    for index in (2, 1):
        summary = extract_videos(encoded, store, ONE_EACH, part=Part(index, 2))
    assert summary.num_shards_pending == 0
    assert Store(store).versions == OLD


def test_parts_that_begin_at_once_with_different_versions_do_not_both_go_on(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may see itself as the first; the one whose record was replaced says so at its end."""
    store = tmp_path / "store"
    make = extract._make

    def overtaken(*arguments: object) -> None:
        make(*arguments)
        (record,) = (store / ".mfcd" / "extract").glob("versions-*.json")
        record.unlink()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extract, "_make", make)
            as_another_machine(patch)
            extract_videos(encoded, store, ONE_EACH, part=Part(2, 2))

    monkeypatch.setattr(extract, "_make", overtaken)
    with pytest.raises(VersionsError, match=r"this part has .*, the parts before it h5py 2\.0\.0"):
        extract_videos(encoded, store, ONE_EACH, part=Part(1, 2))


def test_other_versions_may_make_a_finished_store_again(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    for index in (1, 2):
        extract_videos(encoded, store, ONE_EACH, part=Part(index, 2))
    as_another_machine(monkeypatch)
    for index in (1, 2):
        summary = extract_videos(encoded, store, ONE_EACH, part=Part(index, 2))
    assert (summary.num_shards_pending, summary.num_shards_made > 0) == (0, True)
    assert Store(store).versions == OLD


def test_parts_may_begin_while_others_end(tmp_path: Path) -> None:
    settings = StoreSettings(64, 48)
    with ThreadPoolExecutor(1) as other_part:
        ends = other_part.submit(lambda: [end_parts(tmp_path) for _ in range(2000)])
        while not ends.done():
            join_parts(tmp_path, settings, NOW)
