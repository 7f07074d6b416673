from __future__ import annotations

import errno
import json
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mfcd_core.errors import OutputError
from mfcd_prep import journal as journal_module
from mfcd_prep.journal import Journal, Records, hash_id

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["a/b", "it's", "line\nbreak", "-y", "snow ☃"]


def line(record_id: str, at: int, **more: object) -> bytes:
    return json.dumps({"id": record_id, "at": at, **more}).encode() + b"\n"


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    records = Records(tmp_path / "journal")
    assert len(records) == 0
    assert records.find("a") is None
    assert list(records.iter_beyond(np.zeros(0, np.uint64))) == []


def test_the_last_record_of_an_id_wins(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append({"id": "a", "key": "1"})
        journal.append({"id": "b", "key": "1"})
        journal.append({"id": "a", "key": "2", "more": [1, None]})
    with Records(tmp_path) as records:
        assert len(records) == 2
        assert {**(records.find("a") or {}), "at": 0} == {"id": "a", "key": "2", "more": [1, None], "at": 0}
        assert (records.find("b") or {})["key"] == "1"


def test_the_last_record_wins_whichever_file_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(line("a", 5, key="late") + line("b", 1, key="early"))
    (tmp_path / "2.jsonl").write_bytes(line("a", 4, key="early") + line("b", 2, key="late"))
    with Records(tmp_path) as records:
        assert [(records.find(name) or {})["key"] for name in "ab"] == ["late", "late"]


@pytest.mark.parametrize("name", NAMES)
def test_any_id_comes_back(tmp_path: Path, name: str) -> None:
    with Journal(tmp_path) as journal:
        journal.append({"id": name})
    with Records(tmp_path) as records:
        assert (records.find(name) or {})["id"] == name
    (path,) = tmp_path.iterdir()
    assert path.read_bytes().count(b"\n") == 1


def test_a_record_is_in_the_file_before_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append({"id": "a"})
    with Records(tmp_path) as records:
        assert records.find("a") is not None
    journal.close()


def test_a_journal_without_records_leaves_no_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "own"):
        pass
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("num_bytes", range(1, 21))
def test_a_torn_last_line_costs_itself_alone(tmp_path: Path, num_bytes: int) -> None:
    (tmp_path / "1.jsonl").write_bytes(line("a", 1) + line("b", 2)[:num_bytes])
    with Journal(tmp_path) as journal:
        journal.append({"id": "c"})
    with Records(tmp_path) as records:
        assert records.find("a")
        assert records.find("c")
        assert records.find("b") is None


def test_every_process_has_a_file_of_its_own(tmp_path: Path) -> None:
    for name in "ab":
        with Journal(tmp_path) as journal:
            journal.append({"id": name})
    assert len(list(tmp_path.iterdir())) == 2
    with Records(tmp_path) as records:
        assert all(records.find(name) for name in "ab")


def test_many_files_are_read_with_few_descriptors(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.jsonl").write_bytes(line(str(number), number))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208, a count
    with Records(tmp_path) as records:
        assert all((records.find(str(number)) or {})["at"] == number for number in range(200))
        assert len(os.listdir("/proc/self/fd")) - before <= journal_module.MAX_OPEN_FILES  # noqa: PTH208, a count


def test_lines_that_are_no_records_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'[]\n7\n{"id":"a"}\n\xff\xfe\n\n' + line("a", 1))
    with Records(tmp_path) as records:
        assert (records.find("a") or {})["at"] == 1


def test_records_of_other_ids_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(b"".join(line(name, 1) for name in "abcd"))
    known = np.array([hash_id(name) for name in "bd"], np.uint64)
    with Records(tmp_path) as records:
        assert {record["id"] for record in records.iter_beyond(known)} == {"a", "c"}


def test_a_full_disk_is_said_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match=r"cannot write to .* \(No space left on device\): free some space"):
        Journal(tmp_path).append({"id": "a"})


def test_a_later_record_wins_though_another_clock_was_ahead(tmp_path: Path) -> None:
    ahead = time.time_ns() + 3600 * 10**9
    (tmp_path / "another-machine.jsonl").write_bytes(line("a", ahead, key="early") + line("b", ahead + 1)[:-5])
    with Journal(tmp_path) as journal:
        journal.append({"id": "a", "key": "late"})
        journal.append({"id": "a", "key": "latest"})
    with Records(tmp_path) as records:
        assert (records.find("a") or {})["key"] == "latest"


@pytest.mark.parametrize("values", [{"id": 5, "at": 1}, {"id": "a", "at": "x"}, {"id": "a", "at": 10**30}])
def test_a_record_without_name_or_time_is_none(tmp_path: Path, values: dict[str, object]) -> None:
    (tmp_path / "1.jsonl").write_text(json.dumps(values) + "\n")
    assert len(Records(tmp_path)) == 0
