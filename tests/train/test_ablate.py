"""`mfcd-eval ablate`: what differs between rows, what does not, and what it tells."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from ablating import ROWS, ablate, folder_of
from training import is_same, weights_of

from mfcd_core.errors import UsageError
from mfcd_train.ablation import build_recipes
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from pathlib import Path

    from tiny_runs import Outcome
    from torch import Tensor

# What differs between rows, and what does not


def test_rows_differ_in_clip_and_losses_alone() -> None:
    recipes = {row: recipe.to_dict() for row, recipe in build_recipes("demo", []).items()}
    formats = {row: recipe["data"].pop("clip_format") for row, recipe in recipes.items()}
    assert formats == dict(zip(ROWS, ("rgb", "augmented", "augmented", "residual", "residual-only"), strict=True))
    losses = {row: recipe.pop("distill") for row, recipe in recipes.items()}
    assert [row for row in ROWS if losses[row]["hint_weight"] > 0] == ["student"]
    assert all(recipe == recipes["teacher"] for recipe in recipes.values())
    assert {recipe["optim"]["epochs"] for recipe in recipes.values()} == {24}  # students of their own would have 20


def test_a_key_changes_all_rows() -> None:
    assert {recipe.optim.epochs for recipe in build_recipes("demo", ["optim.epochs=3"]).values()} == {3}


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


@pytest.mark.slow
def test_all_rows_start_from_the_same_weights(tiny_store: Path, tmp_path: Path) -> None:
    """At rate 0 nothing is learnt: what a run ends with is what it began with."""
    done = ablate(tiny_store, tmp_path, "--seeds", 2, "--set", "optim.learning_rate=0", "--set", "optim.weight_decay=0")
    assert done.status == 0, done.err
    first, second = ([learnable(folder_of(tmp_path, row, seed)) for row in ROWS] for seed in (0, 1))
    assert all(is_same(weights, first[0]) for weights in first)
    assert all(is_same(weights, second[0]) for weights in second)
    assert not is_same(first[0], second[0])


@pytest.mark.slow
def test_all_rows_start_from_the_weights_that_are_given(
    ablated: tuple[Path, Outcome], tiny_store: Path, tmp_path: Path
) -> None:
    given = folder_of(ablated[0], "student-residual")
    frozen = ("--set", "optim.learning_rate=0", "--set", "optim.weight_decay=0", "--seeds", 1)
    done = ablate(tiny_store, tmp_path, "--init", given, *frozen)
    assert done.status == 0, done.err
    assert all(is_same(learnable(folder_of(tmp_path, row)), learnable(given)) for row in ROWS)
    assert f"those of {given}" in (tmp_path / "ablation.md").read_text()


def test_rows_learn_from_the_teacher_and_the_seed_that_they_name(ablated: tuple[Path, Outcome]) -> None:
    out, _ = ablated
    for seed in (0, 1):
        facts = [open_run(folder_of(out, row, seed)).facts for row in ROWS]
        assert {fact["seed"] for fact in facts} == {seed}
        assert {fact["init"] for fact in facts} == {"none"}
        teacher = str(folder_of(out, "teacher", seed).resolve())
        assert [fact["teacher"] for fact in facts] == [None, teacher, None, None, None]


# What it tells


def test_the_table_has_the_figures_of_the_runs(ablated: tuple[Path, Outcome]) -> None:
    out, done = ablated
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


def test_progress_counts_runs_and_says_what_is_left(ablated: tuple[Path, Outcome]) -> None:
    lines = ablated[1].err.splitlines()
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


def test_the_page_needs_no_other_file_and_has_the_table_and_its_notes(ablated: tuple[Path, Outcome]) -> None:
    out, _ = ablated
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
