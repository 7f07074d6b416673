"""Extract again where the store was damaged, is not whole, or is another's: what stands is kept, the rest is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stores import OPTIONS, files_of, journals, mtimes_of

from mfcd_core.errors import UsageError
from mfcd_core.store.index import INDEX
from mfcd_prep.encode import EncodeSettings, encode_videos
from mfcd_prep.extract import extract_videos

if TYPE_CHECKING:
    from collections.abc import Callable


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("fault", [truncate, Path.unlink, flip_a_bit])
def test_a_shard_that_is_not_as_recorded_is_made_again(
    foreign: Path, tmp_path: Path, undisturbed: dict[str, bytes], fault: Callable[[Path], None]
) -> None:
    extract_videos(foreign, tmp_path / "store", OPTIONS)
    before = mtimes_of(tmp_path / "store")
    fault(tmp_path / "store" / "shard-00001.h5")
    assert extract_videos(foreign, tmp_path / "store", OPTIONS).num_shards_made == 1
    assert files_of(tmp_path / "store") == undisturbed
    after = mtimes_of(tmp_path / "store")
    assert {name for name in before if before[name] != after[name]} == {"shard-00001.h5"}


@pytest.mark.parametrize("name", ["gops.npy", "videos.npz", INDEX])
def test_an_index_that_is_gone_damaged_or_anothers_is_written_again(
    foreign: Path, tmp_path: Path, undisturbed: dict[str, bytes], name: str
) -> None:
    extract_videos(foreign, tmp_path / "store", OPTIONS)
    extract_videos(foreign / "run", tmp_path / "other", OPTIONS)
    for content in (b"damaged", (tmp_path / "other" / name).read_bytes(), None):
        if content is None:
            (tmp_path / "store" / name).unlink()
        else:
            (tmp_path / "store" / name).write_bytes(content)
        assert extract_videos(foreign, tmp_path / "store", OPTIONS).num_shards_made == 0
        assert files_of(tmp_path / "store") == undisturbed


def test_a_torn_line_of_the_journal_costs_its_shard(
    foreign: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    extract_videos(foreign, tmp_path / "store", OPTIONS)
    (journal,) = journals(tmp_path / "store")
    journal.write_bytes(journal.read_bytes()[:-20])
    assert [extract_videos(foreign, tmp_path / "store", OPTIONS).num_shards_made for _ in range(2)] == [1, 0]
    assert files_of(tmp_path / "store") == undisturbed


def test_a_store_without_its_journal_is_made_again(
    foreign: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    extract_videos(foreign, tmp_path / "store", OPTIONS)
    for journal in journals(tmp_path / "store"):
        journal.unlink()
    assert extract_videos(foreign, tmp_path / "store", OPTIONS).num_shards_kept == 0
    assert files_of(tmp_path / "store") == undisturbed


@pytest.mark.parametrize("name", ["shard-mine.h5", "index.json", "notes.txt"])
def test_a_folder_of_somebody_else_is_left_as_it_is(foreign: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("precious")
    for make in (
        lambda out: extract_videos(foreign, out, OPTIONS),
        lambda out: encode_videos(foreign, out, EncodeSettings()),
    ):
        with pytest.raises(UsageError, match="not empty and was not made by mfcd-prep"):
            make(tmp_path / "mine")
    assert files_of(tmp_path / "mine") == {name: b"precious"}
