from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mfcd_prep.journal import Journal, read_journal

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["a/b", "it's", "line\nbreak", "-y", "snow ☃"]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "journal.jsonl") == {}


def test_the_last_record_of_an_id_wins(tmp_path: Path) -> None:
    path = tmp_path / "own" / "journal.jsonl"
    with Journal(path) as journal:
        journal.append({"id": "a", "key": "1"})
        journal.append({"id": "b", "key": "1"})
        journal.append({"id": "a", "key": "2", "more": [1, None]})
    assert read_journal(path) == {"a": {"id": "a", "key": "2", "more": [1, None]}, "b": {"id": "b", "key": "1"}}


@pytest.mark.parametrize("name", NAMES)
def test_any_id_comes_back(tmp_path: Path, name: str) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append({"id": name, "key": ""})
    assert list(read_journal(tmp_path / "j")) == [name]
    assert (tmp_path / "j").read_bytes().count(b"\n") == 1


def test_a_record_is_in_the_file_before_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append({"id": "a", "key": "1"})
    assert "a" in read_journal(tmp_path / "j")
    journal.close()


@pytest.mark.parametrize("num_bytes", range(1, 21))
def test_a_torn_last_line_costs_itself_alone(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "j"
    whole = b'{"id":"a","key":"1"}\n'
    path.write_bytes(whole + whole.replace(b"a", b"b")[:num_bytes])
    assert set(read_journal(path)) - {"b"} == {"a"}
    with Journal(path) as journal:
        journal.append({"id": "c", "key": "3"})
    assert {"a", "c"} <= set(read_journal(path)) <= {"a", "b", "c"}


def test_a_journal_goes_on_where_it_ended(tmp_path: Path) -> None:
    for name in "ab":
        with Journal(tmp_path / "j") as journal:
            journal.append({"id": name, "key": "1"})
    assert set(read_journal(tmp_path / "j")) == {"a", "b"}


def test_lines_that_are_no_records_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'[]\n7\n{"id":"a"}\n\xff\xfe\n\n{"id":"a","key":"1"}\n')
    assert set(read_journal(tmp_path / "j")) == {"a"}
