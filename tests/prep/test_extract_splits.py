"""Labels, classes and splits of a store: from lists, or drawn where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_prep.extract import ExtractOptions, extract_videos

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def splits_of(store: Path) -> dict[str, dict[str, list[str]]]:
    opened = Store(store)
    ids = opened.videos.ids
    return {name: {role: ids[rows].tolist() for role, rows in roles.items()} for name, roles in opened.splits.items()}


def test_splits_from_a_csv_with_and_without_extension(
    encoded: Path, tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,split", "jump/a.mkv,train", "jump/b,test", "run/c.mp4,val", "run/nowhere.avi,test"]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    options = ("--splits", tmp_path / "mine.csv", "--jobs", "1")
    assert run_command("extract", encoded, tmp_path / "store", *options) == 0
    assert splits_of(tmp_path / "store") == {"mine": {"train": ["jump/a"], "test": ["jump/b"], "val": ["run/c"]}}
    said = capsys.readouterr().err
    assert "warning: 1 entries of the splits match no video, the first is 'run/nowhere.avi'" in said


def test_splits_from_ucf101_lists(encoded: Path, tmp_path: Path) -> None:
    lists = {"trainlist01.txt": "jump/a.avi 1\nrun/c.avi 2\n", "testlist01.txt": "jump/b.avi\n"}
    lists |= {"trainlist02.txt": "run/d.avi 2\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    extract_videos(encoded, tmp_path / "store", ExtractOptions(), split_files=[tmp_path / name for name in lists])
    first = {"train": ["jump/a", "run/c"], "test": ["jump/b"]}
    assert splits_of(tmp_path / "store") == {"split1": first, "split2": {"train": ["run/d"]}}


def test_without_splits_one_in_five_of_a_class_tests(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract_videos(foreign, tmp_path / "store", ExtractOptions())
    roles = splits_of(tmp_path / "store")["random"]
    assert sorted(roles["train"] + roles["test"]) == Store(tmp_path / "store").videos.ids.tolist()
    assert sorted(video_id[:4] for video_id in roles["test"]) == ["jump", "run/"]
    assert "warning: no --splits" in capsys.readouterr().err


def test_a_flat_folder_gives_a_store_without_splits(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract_videos(foreign / "run", tmp_path / "store", ExtractOptions())
    store = Store(tmp_path / "store")
    assert (store.classes, store.splits, set(store.videos.labels.tolist())) == ((), {}, {-1})
    assert "warning: no labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"path,split\njump/a,train\njump/a,test\n", "in train and in test"),
        (b"path,split\ncaf\xe9,test\n", "no entry of the splits matches"),
    ],
)
def test_wrong_splits_are_refused_before_any_work(encoded: Path, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "wrong.csv").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        extract_videos(encoded, tmp_path / "store", ExtractOptions(), split_files=[tmp_path / "wrong.csv"])
    assert not list(tmp_path.glob("store/*.h5"))
