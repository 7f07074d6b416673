"""Run folders: the same command finds its run again, another one is told what differs."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mfcd_core.atomic import this_process
from mfcd_core.errors import OutputError, UsageError
from mfcd_core.store import Store
from mfcd_train.checkpoint import CHECKPOINT, Progress
from mfcd_train.config import Recipe
from mfcd_train.recipe_files import load_recipe
from mfcd_train.runlog import METRICS, RECIPE, RUN, begin_run, claimed, open_run

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_train.runlog import RunLog

ORIGIN = {"teacher": None, "init": None}


@pytest.fixture
def store(tiny_store: Path) -> Store:
    return Store(tiny_store)


@pytest.fixture
def recipe(teacher_recipe: Path) -> Recipe:
    return load_recipe(str(teacher_recipe))


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe, store: Store) -> RunLog:
    """A run that has measured something."""
    log = begin_run(tmp_path / "run", recipe, store, 7, ORIGIN)
    log.append({"step": 10, "epoch": 3, "loss/ce": 0.5})
    return log


def test_a_run_says_what_was_asked_and_with_which_versions(run: RunLog, recipe: Recipe, store: Store) -> None:
    assert load_recipe(str(run.folder / RECIPE)) == recipe == run.recipe
    facts = json.loads((run.folder / RUN).read_text())
    assert (facts["seed"], facts["classes"]) == (7, ["down", "right"])
    assert (facts["store"], facts["store_checksum"]) == (str(store.path.resolve()), store.checksum)
    assert facts["store_settings"]["residual_step"] == 2
    assert {"python", "mfcd", "torch", "numpy"} <= set(facts["versions"])
    assert run.classes == ["down", "right"]


def test_the_same_command_finds_the_run_again(run: RunLog, recipe: Recipe, store: Store) -> None:
    before = (run.folder / RUN).read_bytes()
    again = begin_run(run.folder, recipe, store, 7, ORIGIN)
    assert again.read_metrics() == [{"step": 10, "epoch": 3, "loss/ce": 0.5}]
    assert (again.folder / RUN).read_bytes() == before


def test_a_store_may_move(run: RunLog, recipe: Recipe, store: Store, tmp_path: Path) -> None:
    (tmp_path / "moved").symlink_to(store.path)
    moved = Store(tmp_path / "moved")
    moved.path = tmp_path / "elsewhere"
    assert begin_run(run.folder, recipe, moved, 7, ORIGIN).facts == run.facts


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 8}, "seed"),
        ({"origin": {"teacher": "/runs/a", "init": "/runs/a"}}, "teacher, init"),
        ({"override": {"optim": {"epochs": 5}, "data": {"flip": 0.0}}}, "data.flip, optim.epochs"),
    ],
)
def test_another_command_is_told_what_differs(
    run: RunLog, recipe: Recipe, store: Store, change: dict[str, Any], named: str
) -> None:
    values = recipe.to_dict()
    for section, keys in change.get("override", {}).items():
        values[section] |= keys
    seed, origin = change.get("seed", 7), change.get("origin", ORIGIN)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    with pytest.raises(UsageError, match=f"holds a run with another {named}; choose another --out"):
        begin_run(run.folder, Recipe.from_dict(values), store, seed, origin)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_how_a_run_goes_may_change_and_is_said(
    run: RunLog, recipe: Recipe, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = replace(recipe, run=replace(recipe.run, loader_threads=1, checkpoint_seconds=5.0))
    again = begin_run(run.folder, changed, store, 7, ORIGIN)
    assert again.recipe == changed == load_recipe(str(run.folder / RECIPE))
    assert "goes on with another run.loader_threads, run.checkpoint_seconds" in capsys.readouterr().err
    assert again.read_metrics() == run.read_metrics()
    begin_run(run.folder, changed, store, 7, ORIGIN)
    assert capsys.readouterr().err == ""


def test_a_teacher_that_has_learnt_since_is_refused(tmp_path: Path, recipe: Recipe, store: Store) -> None:
    origin = {"teacher": "/runs/a", "init": "none", "teacher_checksum": "1f"}
    begin_run(tmp_path, recipe, store, 7, origin).append({"step": 10, "epoch": 3})
    assert begin_run(tmp_path, recipe, store, 7, origin).facts["teacher_checksum"] == "1f"
    with pytest.raises(UsageError, match="teacher /runs/a has other weights by now; choose another --out"):
        begin_run(tmp_path, recipe, store, 7, {**origin, "teacher_checksum": "2e"})


def test_another_store_is_named(run: RunLog, recipe: Recipe, store: Store) -> None:
    store.checksum, store.settings = "other", replace(store.settings, residual_step=4)
    with pytest.raises(UsageError, match="another store_checksum, store_settings; choose"):
        begin_run(run.folder, recipe, store, 7, ORIGIN)
    store.classes = ("right", "down")
    with pytest.raises(UsageError, match="store_settings, classes; choose"):
        begin_run(run.folder, recipe, store, 7, ORIGIN)


def test_a_run_that_recorded_nothing_is_begun_anew(tmp_path: Path, recipe: Recipe, store: Store) -> None:
    begin_run(tmp_path, recipe, store, 7, ORIGIN)
    (tmp_path / METRICS).touch()
    assert begin_run(tmp_path, recipe, store, 8, ORIGIN).facts["seed"] == 8
    (tmp_path / CHECKPOINT).write_bytes(b"something")
    with pytest.raises(UsageError, match="another seed"):
        begin_run(tmp_path, recipe, store, 9, ORIGIN)


@pytest.mark.parametrize("text", [None, "", "{", "\x00\x00"])
def test_another_folder_is_no_run(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / RUN).write_text(text)
    with pytest.raises(UsageError, match=rf"{tmp_path}: no readable run.json; expected the folder of a run"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": None},
        {"classes": 2},
        {"classes": [1, 2]},
        {"classes": []},
        {"seed": "7"},
        {"teacher": 1},
        {"init": ["a"]},
        None,
    ],
)
def test_a_record_of_something_else_is_no_run(run: RunLog, change: dict[str, Any] | None) -> None:
    facts = [] if change is None else {**run.facts, **change}
    (run.folder / RUN).write_text(json.dumps(facts))
    with pytest.raises(UsageError, match=r"run.json: not a record of mfcd-train; expected seed, teacher, init and cla"):
        open_run(run.folder)


def test_what_a_killed_process_left_half_written_is_removed(run: RunLog, recipe: Recipe, store: Store) -> None:
    with subprocess.Popen(["true"]) as ended:
        process = this_process().replace(str(os.getpid()), str(ended.pid))
    left = run.folder / f".checkpoint.pt.0a1b2c3d.{process}.part"
    left.write_bytes(b"half of it")
    begin_run(run.folder, recipe, store, 7, ORIGIN)
    assert not left.exists()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path, recipe: Recipe, store: Store) -> None:
    (tmp_path / "file").touch()
    for name, reason in (("file", "File exists"), ("file/run", "Not a directory")):
        expected = rf"{name} cannot be written \({reason}\): expected a folder with some room; choose another --out"
        with pytest.raises(OutputError, match=expected):
            begin_run(tmp_path / name, recipe, store, 7, ORIGIN)


def test_records_that_cannot_be_written_anew_say_where_the_run_goes_on(
    run: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        OutputError, match=r"metrics.jsonl cannot be written \(No space left .*it goes on from the start"
    ):
        run.forget_after(Progress(3, 1, 10))


@pytest.mark.parametrize("torn", [b"\xff\xfe\x00", b'{"step": 20}', b"[1]}", b'{"step": 20,,"epoch": 1}'])
def test_what_is_no_record_is_left_out(run: RunLog, torn: bytes) -> None:
    with (run.folder / METRICS).open("ab") as file:
        file.write(torn)
    assert [record["step"] for record in run.read_metrics()] == [10]


@pytest.mark.parametrize("torn", ['{"step": 20, "epo', '{"step": 20', "{", "\x00\x00\x00"])
def test_a_line_torn_by_a_kill_is_left_out(run: RunLog, torn: str) -> None:
    with (run.folder / METRICS).open("a") as file:
        file.write(torn)
    assert [record["step"] for record in run.read_metrics()] == [10]
    run.forget_after(Progress(3, 1, 10))
    run.append({"step": 20, "epoch": 6})
    assert [record["step"] for record in run.read_metrics()] == [10, 20]


def test_a_resumed_run_forgets_what_it_measures_again(run: RunLog) -> None:
    """Three steps an epoch: an epoch's record says how many epochs are done, a step's how many were before it."""
    for step, epoch in ((11, 3), (12, 3), (12, 4), (13, 4)):
        run.append({"step": step, "epoch": epoch})
    run.forget_after(Progress(4, 1, 13))
    assert [(record["step"], record["epoch"]) for record in run.read_metrics()][-2:] == [(12, 4), (13, 4)]
    run.forget_after(Progress(3, 3, 12))  # all batches of the epoch, not its end
    assert [(record["step"], record["epoch"]) for record in run.read_metrics()] == [(10, 3), (11, 3), (12, 3)]
    run.forget_after(Progress(0, 0, 0))
    assert run.read_metrics() == []
    assert sorted(path.name for path in run.folder.iterdir()) == sorted([RECIPE, RUN, METRICS])


def test_numbers_that_are_none_come_back(run: RunLog) -> None:
    run.append({"step": 11, "epoch": 3, "loss/ce": float("nan")})
    assert str(run.read_metrics()[-1]["loss/ce"]) == "nan"


def test_a_folder_has_one_trainer_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path / "run"):
        with pytest.raises(UsageError, match="another mfcd-train is at work in it"), claimed(tmp_path / "run"):
            pytest.fail("two trainers in one folder")
        with claimed(tmp_path / "other"):
            pass
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def test_a_killed_trainer_keeps_nobody_out(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from mfcd_train.runlog import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path], check=False).returncode == -signal.SIGKILL
    with claimed(tmp_path):
        pass


def test_where_there_are_no_locks_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with claimed(tmp_path):
        assert "cannot be locked (No locks available)" in capsys.readouterr().err
