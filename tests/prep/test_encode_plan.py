"""What a run has to do, against a plain model, over random histories of sources, outputs, settings and runs."""

from __future__ import annotations

import functools
import operator
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mfcd_core.errors import UsageError
from mfcd_prep.encode_entry import Entry
from mfcd_prep.encode_plan import journal_folder, plan_videos, settings_digest
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.journal import Journal
from mfcd_prep.manifest import VideoRecord
from mfcd_prep.part import WHOLE, Part
from mfcd_prep.workspace import file_stat, source_stat

if TYPE_CHECKING:
    from mfcd_prep.encode_plan import EncodePlan

NAMES = tuple(f"{label}/{name}" for label in ("run", "jump") for name in ("a", "b b", "-c", "é", "e\nf"))
SETTINGS = (EncodeSettings(), EncodeSettings(quality=5), EncodeSettings(size=(64, 48)))
names = st.sampled_from(NAMES)


def entry_now(plan: EncodePlan, video_id: str, status: str, *, retry: bool = False) -> Entry:
    """What a run would record now."""
    record = VideoRecord(video_id, f"{video_id}.mp4", video_id.partition("/")[0], status=status)
    output = file_stat(plan.encoded / f"{video_id}.mp4") if status == "ok" else None
    return Entry(plan.settings, "", source_stat(plan.catalog.root / f"{video_id}.mp4"), output, record, None, retry)


class Histories(RuleBasedStateMachine):
    """model: of each source, what the plan is to say of it."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.source, self.encoded = Path(self._folder.name, "s"), Path(self._folder.name, "e")
        self.settings = SETTINGS[0]
        self.clock = 0
        self.done: dict[str, tuple[EncodeSettings, int]] = {}  # with what, and which content
        self.content: dict[str, int] = {}
        self.spoiled: set[str] = set()
        self.unfinished: set[str] = set()
        self.failed: set[str] = set()

    def write(self, path: Path) -> None:
        """A file whose time differs from any before."""
        self.clock += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")
        os.utime(path, ns=(0, self.clock))

    @initialize(name=names)
    def first(self, name: str) -> None:
        self.change_source(name)

    @rule(name=names)
    def change_source(self, name: str) -> None:
        self.write(self.source / f"{name}.mp4")
        self.content[name] = self.clock

    @rule(name=names)
    def remove_source(self, name: str) -> None:
        if len(self.content) > 1 and self.content.pop(name, None):
            (self.source / f"{name}.mp4").unlink()

    @rule(name=names)
    def spoil_output(self, name: str) -> None:
        if (self.encoded / f"{name}.mp4").exists():
            self.write(self.encoded / f"{name}.mp4")
            self.spoiled.add(name)

    @rule(chosen=st.sampled_from(SETTINGS))
    def choose(self, chosen: EncodeSettings) -> None:
        self.settings = chosen

    @rule(index=st.integers(1, 3), count=st.just(3), status=st.sampled_from(["ok", "failed", "lost"]))
    def run_part(self, index: int, count: int, status: str) -> None:
        """What `encode --part` does, without encoding."""
        plan = self.plan(Part(index, count))
        with Journal(journal_folder(self.encoded)) as journal:
            for todo in plan.iter_todo():
                name = todo.video.id
                if status == "ok":
                    self.write(self.encoded / f"{name}.mp4")
                elif (self.encoded / f"{name}.mp4").exists():
                    (self.encoded / f"{name}.mp4").unlink()
                journal.append(
                    entry_now(plan, name, "ok" if status == "ok" else "failed", retry=status == "lost").to_dict()
                )
                self.done[name] = self.settings, self.content[name]
                for names_, holds in ((self.unfinished, status == "lost"), (self.failed, status == "failed")):
                    (names_.add if holds else names_.discard)(name)
                self.spoiled.discard(name)

    def plan(self, part: Part = WHOLE) -> EncodePlan:
        return plan_videos(self.source, self.encoded, self.settings, part=part)

    def expected(self) -> set[str]:
        return {
            name
            for name, content in self.content.items()
            if name in self.unfinished
            or self.done.get(name) != (self.settings, content)
            or (name in self.spoiled and name not in self.failed)
        }

    @invariant()
    def the_plan_is_what_is_missing(self) -> None:
        if self.content:
            plan = self.plan()
            assert {todo.video.id for todo in plan.iter_todo()} == self.expected()
            assert plan.num_standing == len(self.content) - len(self.expected())

    @invariant()
    def parts_share_the_plan(self) -> None:
        if self.content:
            parts = [[todo.video.id for todo in self.plan(Part(index, 3)).iter_todo()] for index in (1, 2, 3)]
            assert sorted(functools.reduce(operator.iadd, parts, [])) == sorted(self.expected())

    @invariant()
    def what_vanished_is_told_from_what_was_never_made(self) -> None:
        if self.content:
            outputs = {name for name in NAMES if (self.encoded / f"{name}.mp4").exists()}
            ok = {name for name in outputs if name in self.done}
            assert set(self.plan().vanished) == ok - set(self.content)

    def teardown(self) -> None:
        self._folder.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 50))
def test_parts_are_disjoint_and_complete(numbers: list[int], count: int) -> None:
    takers = [[index for index in range(1, count + 1) if Part(index, count).takes(number)] for number in numbers]
    assert all(len(parts) == 1 for parts in takers)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/2", "1/2/3", ""])
def test_a_part_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N, as 3/16"):
        Part.parse(text)


def test_a_part_reads_as_it_is_written() -> None:
    assert str(Part.parse(" 3/16 ")) == "3/16"


def test_a_timeout_is_tried_again_with_more_time_alone(tmp_path: Path) -> None:
    (tmp_path / "s" / "run").mkdir(parents=True)
    (tmp_path / "s" / "run" / "a.mp4").write_bytes(b"video")
    plan = plan_videos(tmp_path / "s", tmp_path / "e", SETTINGS[0])
    entry = entry_now(plan, "run/a", "failed")
    timed_out = replace(entry, record=replace(entry.record, problem="timeout"), timeout_seconds=10.0)
    with Journal(journal_folder(tmp_path / "e")) as journal:
        journal.append(timed_out.to_dict())
    for timeout_seconds, whys in [(5, []), (10, []), (11, ["more time allowed"]), (None, ["more time allowed"])]:
        again = plan_videos(tmp_path / "s", tmp_path / "e", SETTINGS[0], timeout_seconds=timeout_seconds)
        assert [todo.why for todo in again.iter_todo()] == whys


def test_the_journal_comes_back_as_it_was() -> None:
    record = VideoRecord("a", "a.avi", None, problem="timeout")
    entry = Entry(settings_digest(SETTINGS[1]), "abc", None, None, record, 3.5, retry=True)
    assert Entry.from_dict(entry.to_dict()) == entry
