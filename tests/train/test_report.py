from __future__ import annotations

import base64
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from lightning_fabric import Fabric
from synthetic import random_gop, write_store
from torch import nn

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train.config import DataRecipe, DistillRecipe, Recipe
from mfcd_train.evaluator import evaluate
from mfcd_train.report import choose_gop, write_report
from mfcd_train.reported import EVALUATION_KEYS
from mfcd_train.runlog import EVALUATION, METRICS, begin_run, open_run

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mfcd_train.runlog import RunLog

CLASSES = ['<b onload="x()">', "kick & 'punch'"]
STUDENT = "student'\"><script>alert(1)<!--"
VOID = {"meta", "img", "br", "link", "hr", "input"}


class MeanColour(nn.Module):
    """A network without weights: the mean of each channel is a logit."""

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return clip.mean(dim=(2, 3, 4))[:, : len(CLASSES)]


class Page(HTMLParser):
    """Tags of a page: their attributes, its text, whether every one is closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `store`, and an evaluated `teacher` and student."""
    folder = tmp_path_factory.mktemp("report")
    settings, rng = StoreSettings(width_px=32, height_px=32), np.random.default_rng(0)
    videos = {f"{name}/{i}": [random_gop(settings, rng) for _ in range(2)] for name in CLASSES for i in range(3)}
    split = {"test": [i for i in videos if i[-1] == "2"], "train": [i for i in videos if i[-1] != "2"]}
    store = Store(write_store(folder / "store", settings, videos, {"one": split}))
    data = DataRecipe(clip_format="rgb", frame_size=32, crop_size=16, batch_size=4)
    teacher = Recipe(data=data)
    student = Recipe(data=replace(data, clip_format="augmented"), distill=DistillRecipe(hint_weight=1.0))
    _make_run(folder / "teacher", teacher, store, {"teacher": None, "init": None})
    origin = str(folder / "teacher")
    _make_run(folder / STUDENT, student, store, {"teacher": origin, "init": origin})
    return folder


def _make_run(folder: Path, recipe: Recipe, store: Store, origin: dict[str, str | None]) -> None:
    run = begin_run(folder, recipe, store, 3, origin)
    terms = ("loss/ce", "loss/total", "clip/top1") + (("loss/hint", "loss/soft") if origin["teacher"] else ())
    for epoch in range(2):
        run.append({"step": 12 * epoch + 10, "epoch": epoch, **dict.fromkeys(terms, 0.5)})
        run.append({"step": 12 * epoch + 12, "epoch": epoch + 1, "validation/clip/top1": 0.25})
    fabric = Fabric(accelerator="cpu")
    found = evaluate(fabric, MeanColour(), store, recipe, split="one", clips=3, seed=7, protocol="random")
    (folder / EVALUATION).write_text(json.dumps(found.result), encoding="utf-8")


def _open_runs(folder: Path) -> list[RunLog]:
    return [open_run(folder / "teacher"), open_run(folder / STUDENT)]


def _report(folder: Path, runs: list[RunLog]) -> str:
    write_report(Store(folder / "store"), runs, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(made: Path) -> str:
    return _report(made, _open_runs(made))


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_page_is_one_file_without_references(page: Page, text: str) -> None:
    sources = [a for _, attributes in page.tags for name, a in attributes.items() if name in {"src", "href", "srcset"}]
    assert sources
    assert all(source and source.startswith("data:image/") for source in sources)
    assert not page.of("script")
    assert not page.of("link")
    assert not re.search(r"url\(|@import|https?://", text)


def test_page_has_title_language_viewport_and_alt_texts(page: Page) -> None:
    assert page.of("html")[0]["lang"] == "en"
    assert any(meta.get("name") == "viewport" for meta in page.of("meta"))
    assert len(page.of("title")) == 1
    assert all(image["alt"] for image in page.of("img"))
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert not ids or max(ids.values()) == 1


def test_page_shows_the_figures_of_evaluation_json(made: Path, page: Page) -> None:
    results = [_evaluation(run) for run in _open_runs(made)]
    for result in results:
        for key in ("clip/top1", "video/top1", "chance"):
            assert f"{result[key]:.1%}" in page.text
        low, high = result["intervals"]["video/top1"]
        assert f"{100 * low:.0f} to {100 * high:.0f}" in page.text
    points = (results[1]["clip/top1"] - results[0]["clip/top1"]) * 100
    assert re.search(rf"\u2212 teacher points .*{abs(points):.1f}", page.text)
    assert "2 test videos of split “one”, 3 clips each (random protocol, seed 7)" in page.text
    assert "top-5" not in page.text  # two classes


def test_evaluator_writes_what_the_report_reads(made: Path) -> None:
    assert set(_evaluation(_open_runs(made)[0])) == EVALUATION_KEYS


def test_page_has_curves_of_every_metric_and_five_rows_of_pictures(page: Page) -> None:
    kinds = Counter((image["src"] or "").partition(";")[0] for image in page.of("img"))
    assert kinds == {"data:image/svg+xml": 6, "data:image/png": 6 + 5 + 5 + 6 + 1 + 5}
    for source in (image["src"] or "" for image in page.of("img")):
        base64.b64decode(source.partition(",")[2], validate=True)


def test_page_says_settings_recipe_versions_and_seed(page: Page) -> None:
    for words in ("residual_step 2", 'clip_format = "augmented"', "torch 2.", "seed of training 3 3", "subpel"):
        assert words in page.text


def test_hostile_names_are_text(page: Page, text: str) -> None:
    assert STUDENT in page.text
    assert all(class_name in page.text for class_name in CLASSES)
    assert all("onload" not in attributes for _, attributes in page.tags)
    assert "<script" not in text
    assert "<b onload" not in text


def test_same_runs_give_the_same_page(made: Path, text: str) -> None:
    assert _report(made, _open_runs(made)) == text


def test_run_without_evaluation_is_told_to_run_mfcd_eval(made: Path, tmp_path: Path) -> None:
    run = _copy(made / "teacher", tmp_path)
    (run.folder / EVALUATION).unlink()
    with pytest.raises(UsageError, match=r"no evaluation.json: run `mfcd-eval .*teacher .*store` first"):
        write_report(Store(made / "store"), [run], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", ["{torn", "[]", '{"clip/top1": 1}'])
def test_unusable_evaluation_is_told_to_run_mfcd_eval(made: Path, tmp_path: Path, content: str) -> None:
    run = _copy(made / "teacher", tmp_path)
    (run.folder / EVALUATION).write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="run `mfcd-eval"):
        write_report(Store(made / "store"), [run], tmp_path / "report.html")


def test_evaluation_on_another_store_is_refused(made: Path, tmp_path: Path) -> None:
    run = _copy(made / "teacher", tmp_path)
    _change_evaluation(run, store_settings={"width_px": 64})
    with pytest.raises(UsageError, match="another store"):
        write_report(Store(made / "store"), [run], tmp_path / "report.html")


def test_runs_evaluated_in_different_ways_are_said_not_to_compare(made: Path, tmp_path: Path) -> None:
    other = _copy(made / "teacher", tmp_path)
    _change_evaluation(other, seed=8)
    write_report(Store(made / "store"), [*_open_runs(made)[:1], other], tmp_path / "report.html")
    told = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "do not compare" in told
    assert str(other.folder) in told  # both folders are named teacher


def test_page_of_a_run_whose_first_epoch_has_not_ended_has_no_curves(made: Path, tmp_path: Path) -> None:
    run = _copy(made / "teacher", tmp_path)
    (run.folder / METRICS).unlink()
    write_report(Store(made / "store"), [run], tmp_path / "report.html")
    assert "No epoch has ended yet" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_chosen_gop_is_of_a_test_video_and_the_same_every_time(made: Path) -> None:
    store = Store(made / "store")
    rows = store.splits["one"]["test"]
    first, second = (choose_gop(store, rows) for _ in range(2))
    assert first[:2] == second[:2]
    assert first[0] in [str(store.videos.ids[row]) for row in rows]


def _evaluation(run: RunLog) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run.folder / EVALUATION).read_text(encoding="utf-8"))
    return values


def _change_evaluation(run: RunLog, **changes: object) -> None:
    (run.folder / EVALUATION).write_text(json.dumps({**_evaluation(run), **changes}), encoding="utf-8")


def _copy(run: Path, folder: Path) -> RunLog:
    return open_run(shutil.copytree(run, folder / run.name))
