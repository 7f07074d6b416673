"""`mfcd-eval ablate`: what differs between rows and what does not, resuming, failing, and its page."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from tiny_runs import TEACHER, run_command
from training import damage_only_gop, error_line, interrupt_at_step, is_same, weights_of

from mfcd_core.errors import UsageError
from mfcd_train import ablation
from mfcd_train.ablation import TITLES, build_recipes
from mfcd_train.evaluate import main
from mfcd_train.losses import DivergedError
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tiny_runs import Outcome
    from torch import Tensor

KEYS = {
    **{f"data.{key}": value for key, value in TEACHER["data"].items() if key != "clip_format"},
    **{f"optim.{key}": value for key, value in TEACHER["optim"].items()},
    "optim.epochs": 1, "run.tensorboard": "false", "run.report": "false", "model.width": 0.1,
}  # fmt: skip
TINY = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]
ROWS = list(TITLES)


def ablate(store: Path, out: Path, *arguments: object) -> Outcome:
    fixed = ("--recipes", "demo", "--device", "cpu", "--clips", 2, *TINY)
    return run_command(main, "ablate", store, "--out", out, *fixed, *arguments)


def folder_of(out: Path, row: str, seed: int = 0) -> Path:
    return out / "runs" / "split-only" / f"seed-{seed}" / row


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file: when it was written, and its bytes."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> tuple[Path, Outcome]:
    """An ablation with two seeds: its folder, and what the command printed."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    done = ablate(tiny_store, out, "--seeds", 2, "--json")
    assert done.status == 0, done.err
    return out, done


# What differs between rows, and what does not


def test_rows_differ_in_clip_and_losses_alone() -> None:
    recipes = {row: recipe.to_dict() for row, recipe in build_recipes("demo", ["optim.epochs=3"]).items()}
    formats = {row: recipe["data"].pop("clip_format") for row, recipe in recipes.items()}
    assert formats == dict(zip(ROWS, ("rgb", "augmented", "augmented", "residual", "residual-only"), strict=True))
    losses = {row: recipe.pop("distill") for row, recipe in recipes.items()}
    assert [row for row in ROWS if losses[row]["hint_weight"] > 0] == ["student"]
    assert all(recipe == recipes["teacher"] for recipe in recipes.values())
    assert recipes["teacher"]["optim"]["epochs"] == 3


def test_the_papers_recipes_are_the_default_size() -> None:
    assert {recipe.data.crop_size for recipe in build_recipes("paper", []).values()} == {224}


def test_a_key_of_distill_is_for_the_full_method() -> None:
    recipes = build_recipes("demo", ["distill.hint_weight=0.25"])
    assert [recipes[row].distill.hint_weight for row in ROWS] == [0, 0.25, 0, 0, 0]


@pytest.mark.parametrize("key", ["data.clip_format=rgb", "data.split=a"])
def test_keys_that_the_rows_set_themselves_are_refused(key: str) -> None:
    with pytest.raises(UsageError, match="each row has its own clip format; choose splits with --split"):
        build_recipes("demo", [key])


def test_the_full_method_keeps_its_teacher() -> None:
    with pytest.raises(UsageError, match="leaves the full method without a teacher"):
        build_recipes("demo", ["distill.hint_weight=0", "distill.soft_weight=0"])


def learnable(run: Path) -> dict[str, Tensor]:
    return {name: weight for name, weight in weights_of(run).items() if "running" not in name and "num_b" not in name}


def test_all_rows_start_from_the_same_weights(tiny_store: Path, tmp_path: Path) -> None:
    """At rate 0 nothing is learnt: what a run ends with is what it began with."""
    done = ablate(tiny_store, tmp_path, "--seeds", 2, "--set", "optim.learning_rate=0", "--set", "optim.weight_decay=0")
    assert done.status == 0, done.err
    first, second = ([learnable(folder_of(tmp_path, row, seed)) for row in ROWS] for seed in (0, 1))
    assert all(is_same(weights, first[0]) for weights in first)
    assert all(is_same(weights, second[0]) for weights in second)
    assert not is_same(first[0], second[0])


def test_all_rows_start_from_the_weights_that_are_given(
    made: tuple[Path, Outcome], tiny_store: Path, tmp_path: Path
) -> None:
    given = folder_of(made[0], "student-residual")
    frozen = ("--set", "optim.learning_rate=0", "--set", "optim.weight_decay=0", "--seeds", 1)
    done = ablate(tiny_store, tmp_path, "--init", given, *frozen)
    assert done.status == 0, done.err
    assert all(is_same(learnable(folder_of(tmp_path, row)), learnable(given)) for row in ROWS)
    assert f"those of {given}" in (tmp_path / "ablation.md").read_text()


def test_rows_learn_from_the_teacher_and_the_seed_that_they_name(made: tuple[Path, Outcome]) -> None:
    out, _ = made
    for seed in (0, 1):
        facts = [open_run(folder_of(out, row, seed)).facts for row in ROWS]
        assert {fact["seed"] for fact in facts} == {seed}
        assert {fact["init"] for fact in facts} == {"none"}
        teacher = str(folder_of(out, "teacher", seed).resolve())
        assert [fact["teacher"] for fact in facts] == [None, teacher, None, None, None]


# What it tells


def test_the_table_has_the_figures_of_the_runs(made: tuple[Path, Outcome]) -> None:
    out, done = made
    result = json.loads(done.out)
    assert [row["row"] for row in result["rows"]] == ROWS
    for row in result["rows"]:
        kept = [json.loads((folder_of(out, row["row"], s) / "evaluation.json").read_text()) for s in (0, 1)]
        assert row["accuracy"]["clip/top1"]["mean"] == pytest.approx(sum(k["clip/top1"] for k in kept) / 2)
        assert {(k["clips"], k["seed"], k["protocol"], k["split"]) for k in kept} == {(2, 0, "random", "only")}
    assert (result["failed"], len(result["runs"])) == ([], 10)
    runs = list(csv.DictReader((out / "runs.csv").read_text().splitlines()))
    assert [float(run["clip/top1"]) for run in runs] == [run["clip/top1"] for run in result["runs"]]
    assert {path.name for path in out.iterdir()} == {"ablation.csv", "ablation.html", "ablation.md", "runs.csv", "runs"}


def test_progress_counts_runs_and_says_what_is_left(made: tuple[Path, Outcome]) -> None:
    lines = made[1].err.splitlines()
    assert "run 1 of 10: RGB, split only, seed 0" in lines
    assert [line for line in lines if re.fullmatch(r"run 7 of 10: full method, .*seed 1, about \d+ min left", line)]
    assert lines[-1].startswith("10 of 10 runs are done; table: /")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link"}
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_needs_no_other_file_and_has_the_table_and_its_notes(made: tuple[Path, Outcome]) -> None:
    out, _ = made
    text = (out / "ablation.html").read_text()
    page = Page(text)
    assert page.sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import|https?://", text)
    told = " ".join(" ".join(page.words).split())
    for words in ("paper: HMDB51", "64.4 (−2.5)", "random ones, drawn by the seed", "95 % interval over 2 seeds"):  # noqa: RUF001
        assert words in told
    for line in (out / "ablation.md").read_text().splitlines():
        if line.startswith("- "):
            assert line.removeprefix("- ") in told


# Again, after a kill, and what fails


def test_the_same_command_again_changes_no_run(made: tuple[Path, Outcome], tiny_store: Path) -> None:
    out, done = made
    before = state_of(out / "runs")
    again = ablate(tiny_store, out, "--seeds", 2, "--json")
    assert again.status == 0
    assert state_of(out / "runs") == before
    assert json.loads(again.out) == json.loads(done.out)
    assert not [line for line in again.err.splitlines() if line.startswith(("training", "evaluating", "resuming"))]


def test_an_interrupted_ablation_ends_as_one_that_nobody_disturbed(
    made: tuple[Path, Outcome], tiny_store: Path, tmp_path: Path
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
        assert is_same(weights_of(folder_of(tmp_path, row)), weights_of(folder_of(made[0], row)))


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


def test_an_evaluation_of_other_weights_is_made_again(made: tuple[Path, Outcome], tiny_store: Path) -> None:
    """As `mfcd-eval` may have left one when the run was half done."""
    path = folder_of(made[0], "student") / "evaluation.json"
    right = json.loads(path.read_text())
    path.write_text(json.dumps({**right, "clip/top1": 0.123, "weights_checksum": "0"}))
    assert ablate(tiny_store, made[0], "--seeds", 1).status == 0
    assert json.loads(path.read_text()) == right


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


def test_a_damaged_gop_is_a_failure_of_the_runs_that_meet_it(tmp_path: Path, tiny_store: Path) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store")
    damage_only_gop(store, "down/1")
    done = ablate(store, tmp_path / "out", "--seeds", 1)
    assert done.status == 1
    assert done.err.count("failed: ") >= 5
    assert "Traceback" not in done.err


def test_sigterm_amid_an_evaluation_ends_with_75_and_a_hint(
    made: tuple[Path, Outcome], tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = made
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ablation, "evaluate", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    done = ablate(tiny_store, out, "--seeds", 1, "--protocol", "spread")
    assert done.status == 75
    assert done.err.endswith("stopped by SIGTERM with everything saved; the same command goes on from here\n")
    assert signal.getsignal(signal.SIGTERM) == before
    assert json.loads((folder_of(out, "teacher") / "evaluation.json").read_text())["protocol"] == "random"


def test_another_recipe_in_the_same_folder_is_refused(made: tuple[Path, Outcome], tiny_store: Path) -> None:
    done = ablate(tiny_store, made[0], "--set", "optim.epochs=2")
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith(
        f"error: {folder_of(made[0], 'teacher')} holds a run with another optim.e"
    )


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
