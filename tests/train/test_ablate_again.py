"""`mfcd-eval ablate` again: after a kill, after a failure, with more seeds; and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ablating import OPTIONS, ROWS, ablate, folder_of
from synthetic import random_gop, write_store
from tiny_runs import SIDE_PX
from training import damage_only_gop, error_line, interrupt_at_step, is_same, weights_of

from mfcd_core.store.settings import StoreSettings
from mfcd_train import ablation
from mfcd_train.ablation import TITLES
from mfcd_train.losses import DivergedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiny_runs import Outcome


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file: when it was written, and its bytes."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


def test_the_same_command_again_changes_no_run(ablated: tuple[Path, Outcome], tiny_store: Path) -> None:
    out, done = ablated
    before = state_of(out / "runs")
    again = ablate(tiny_store, out, "--seeds", 2, "--json")
    assert again.status == 0
    assert state_of(out / "runs") == before
    assert json.loads(again.out) == json.loads(done.out)
    assert not [line for line in again.err.splitlines() if line.startswith(("training", "evaluating", "resuming"))]


@pytest.mark.slow
def test_an_interrupted_ablation_ends_as_one_that_nobody_disturbed(
    ablated: tuple[Path, Outcome], tiny_store: Path, tmp_path: Path
) -> None:
    saved = ("--set", "run.checkpoint_seconds=0")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ablation, "train", interrupted_in(patched, "student-residual"))
        stopped = ablate(tiny_store, tmp_path, "--seeds", 1, *saved)
    assert stopped.status == 130
    assert "the same command goes on from here" in stopped.err
    assert not folder_of(tmp_path, "student-residual-only").exists()
    assert "3 of 5 runs are done" in (tmp_path / "ablation.html").read_text()
    resumed = ablate(tiny_store, tmp_path, "--seeds", 1, *saved)
    assert resumed.status == 0, resumed.err
    assert f"resuming {folder_of(tmp_path, 'student-residual')} at epoch 0 of 1, step 2" in resumed.err
    for row in ROWS:
        assert is_same(weights_of(folder_of(tmp_path, row)), weights_of(folder_of(ablated[0], row)))


def interrupted_in(patched: pytest.MonkeyPatch, row: str) -> Callable[..., object]:
    """Training that Ctrl-C reaches at the third step of a row."""
    whole = ablation.train

    def train(run: Any, *rest: Any) -> object:  # noqa: ANN401
        if run.folder.name == row:
            interrupt_at_step(patched, 2)
        return whole(run, *rest)

    return train


@pytest.mark.slow
def test_more_seeds_and_another_protocol_train_nothing_twice(tiny_store: Path, tmp_path: Path) -> None:
    assert ablate(tiny_store, tmp_path, "--seeds", 1).status == 0
    before = {row: (folder_of(tmp_path, row) / "checkpoint.pt").stat().st_mtime_ns for row in ROWS}
    more = ablate(tiny_store, tmp_path, "--seeds", 2, "--protocol", "spread", "--json")
    assert more.status == 0, more.err
    assert {row: (folder_of(tmp_path, row) / "checkpoint.pt").stat().st_mtime_ns for row in ROWS} == before
    assert {run["protocol"] for run in json.loads(more.out)["runs"]} == {"spread"}


def test_an_evaluation_of_other_weights_is_made_again(ablated: tuple[Path, Outcome], tiny_store: Path) -> None:
    """As `mfcd-eval` may have left one when the run was half done."""
    path = folder_of(ablated[0], "student") / "evaluation.json"
    right = json.loads(path.read_text())
    path.write_text(json.dumps({**right, "clip/top1": 0.123, "weights_checksum": "0"}))
    assert ablate(tiny_store, ablated[0], "--seeds", 2).status == 0
    assert json.loads(path.read_text()) == right


@pytest.mark.slow
def test_a_run_that_fails_costs_itself_and_its_student(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ablation.train

    def diverging(run: Any, *rest: Any) -> object:  # noqa: ANN401
        if run.folder.name in {"teacher", "student-residual"}:
            raise DivergedError("loss is not a number at step 3")
        return whole(run, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "train", diverging)
        done = ablate(tiny_store, tmp_path, "--seeds", 1, "--json")
    assert done.status == 1
    result = json.loads(done.out)
    assert [(run["row"], run["reason"]) for run in result["failed"]] == [
        ("teacher", "loss is not a number at step 3"),
        ("student", "its teacher failed"),
        ("student-residual", "loss is not a number at step 3"),
    ]
    assert "failed: full method, split only, seed 0: its teacher failed" in done.err.splitlines()
    assert [row["row"] for row in result["rows"]] == ["student-no-teacher", "student-residual-only"]
    assert "failed: its teacher failed" in (tmp_path / "ablation.html").read_text()
    again = ablate(tiny_store, tmp_path, "--seeds", 1, "--json")
    assert again.status == 0, again.err
    assert len(json.loads(again.out)["runs"]) == 5


@pytest.mark.slow
def test_two_processes_share_every_run_and_speak_once(tiny_store: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    command = [*program, Path(sys.executable).with_name("mfcd-eval"), "ablate", tiny_store, "--out", tmp_path / "out"]
    command += [*OPTIONS, "--seeds", 1]
    done = subprocess.run([str(word) for word in command], stderr=subprocess.PIPE, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert [done.stderr.count(f"run {number} of 5: ") for number in range(1, 6)] == [1] * 5
    assert "5 of 5 runs are done" in done.stderr
    rows = csv.DictReader((tmp_path / "out" / "runs.csv").read_text().splitlines())
    assert [(row["row"], row["num_videos"]) for row in rows] == [(title, "2") for title in TITLES.values()]


@pytest.mark.slow
def test_splits_are_averaged_and_their_names_name_no_other_folder(tmp_path: Path) -> None:
    random, settings = np.random.default_rng(1), StoreSettings(SIDE_PX, SIDE_PX)
    videos = {f"{name}/{i}": [random_gop(settings, random)] for name in ("down", "right") for i in range(4)}
    even, odd = ([i for i in videos if int(i[-1]) % 2 == rest] for rest in (0, 1))
    splits = {"../../up": {"train": even, "test": odd}, "two": {"train": odd, "test": even}}
    store = write_store(tmp_path / "store", settings, videos, splits)
    before = set(tmp_path.iterdir())
    done = ablate(store, tmp_path / "a" / "b", "--seeds", 1, "--split", "all", "--json")
    assert done.status == 0, done.err
    assert {*tmp_path.iterdir()} == {*before, tmp_path / "a"}
    assert {path.name for path in (tmp_path / "a" / "b" / "runs").iterdir()} == {"split-..%2F..%2Fup", "split-two"}
    told = json.loads(done.out)
    of_rgb = [run["clip/top1"] for run in told["runs"] if run["row"] == "teacher"]
    assert len(of_rgb) == 2
    assert told["rows"][0]["accuracy"]["clip/top1"]["mean"] == pytest.approx(sum(of_rgb) / 2)
    assert told["rows"][0]["accuracy"]["clip/top1"]["num"] == 1


def test_a_damaged_gop_is_a_failure_of_the_runs_that_meet_it(tmp_path: Path, tiny_store: Path) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store")
    damage_only_gop(store, "down/1")
    done = ablate(store, tmp_path / "out", "--seeds", 1)
    assert done.status == 1
    assert done.err.count("failed: ") >= 5
    assert "Traceback" not in done.err


def test_sigterm_amid_an_evaluation_ends_with_75_and_a_hint(
    ablated: tuple[Path, Outcome], tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = ablated
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ablation, "evaluate", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    done = ablate(tiny_store, out, "--seeds", 1, "--protocol", "spread", "--json")
    assert done.status == 75
    assert json.loads(done.out) == {"out": str(out), "preempted": True}
    assert done.err.endswith("stopped by SIGTERM with everything saved; the same command goes on from here\n")
    assert signal.getsignal(signal.SIGTERM) == before
    assert json.loads((folder_of(out, "teacher") / "evaluation.json").read_text())["protocol"] == "random"


def test_another_recipe_in_the_same_folder_is_refused(ablated: tuple[Path, Outcome], tiny_store: Path) -> None:
    done = ablate(tiny_store, ablated[0], "--set", "optim.epochs=2")
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith(
        f"error: {folder_of(ablated[0], 'teacher')} holds a run with another optim.e"
    )


@pytest.mark.parametrize("arguments", [[], ["--split", "all"]])
def test_a_store_without_labels_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    gop = random_gop(StoreSettings(SIDE_PX, SIDE_PX), np.random.default_rng(0))
    store = write_store(tmp_path / "store", StoreSettings(SIDE_PX, SIDE_PX), {"a": [gop], "b": [gop]}, {})
    assert "has no labelled videos" in error_line(ablate(store, tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "nine"], "split 'nine': expected one of only"),
        (["--init", "nowhere.pth"], "nowhere.pth: not there"),
        (["--set", "optim.epoch=1"], "did you mean 'epochs'"),
        (["--set", "data.clip_format=rgb"], "each row has its own clip format"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tiny_store: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert words in error_line(ablate(tiny_store, tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()
