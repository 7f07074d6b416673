"""The files that `mfcd-eval` leaves in a run, its means over runs, and its intervals over videos."""

from __future__ import annotations

import csv
import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from synthetic import random_gop, write_store
from tiny_runs import TEACHER, run_command, write_recipe
from training import error_line, train

from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train import evaluator
from mfcd_train.confusion import draw_confusion
from mfcd_train.dataset import split_rows
from mfcd_train.evaluate import main
from mfcd_train.intervals import bootstrap
from mfcd_train.metrics import confusion_matrix

if TYPE_CHECKING:
    from pathlib import Path

    from tiny_runs import Outcome

FILES = ("scores.npz", "confusion.csv", "confusion.png", "evaluation.json")
CLASSES = ("down", "right")
EYE = np.eye(2, dtype=np.int64)


def evaluate(*arguments: object) -> Outcome:
    return run_command(main, *arguments, "--device", "cpu")


@pytest.fixture(scope="module")
def two_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of two classes; the training videos of one split are the test videos of the other."""
    random, settings = np.random.default_rng(3), StoreSettings(32, 32)
    ids = [f"{name}/{number}" for name in CLASSES for number in range(6)]
    videos = {i: [random_gop(settings, random)] * (int(i[-1]) % 2 + 1) for i in ids}
    halves = ([i for i in ids if int(i[-1]) < 3], [i for i in ids if int(i[-1]) >= 3])
    splits = {name: {"train": halves[n], "test": halves[1 - n]} for n, name in enumerate(("one", "two"))}
    return write_store(tmp_path_factory.mktemp("splits"), settings, videos, splits)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, two_splits: Path) -> dict[tuple[str, int], Path]:
    """Two seeds of each split, one epoch each."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = write_recipe(folder / "recipe.toml", {**TEACHER, "optim": {**TEACHER["optim"], "epochs": 1}})
    found = {(split, seed): folder / f"{split}-{seed}" for split in ("one", "two") for seed in (0, 1)}
    for (split, seed), out in found.items():
        assert train(two_splits, recipe, out, "--seed", seed, "--set", f"data.split={split}").status == 0
    return found


# Files


def test_scores_are_those_of_which_the_figures_are_made(teacher_run: Path, tiny_store: Path) -> None:
    done = evaluate(teacher_run, tiny_store, "--clips", 3, "--json")
    result = json.loads(done.out)
    with np.load(teacher_run / "scores.npz") as kept:  # refuses pickles
        arrays = dict(kept)
    assert json.loads(str(arrays["result"])) == result == json.loads((teacher_run / "evaluation.json").read_text())
    assert arrays["scores"].shape == (2, 3, 2)
    assert arrays["scores"].sum(2) == pytest.approx(1, abs=1e-5)
    assert (arrays["scores"].argmax(2) == arrays["label"][:, None]).mean() == pytest.approx(result["clip/top1"])
    assert (arrays["scores"].mean(1).argmax(1) == arrays["label"]).mean() == result["video/top1"]
    store = Store(tiny_store)
    assert arrays["video_id"].tolist() == [str(store.videos.ids[i]) for i in split_rows(store, "")["test"]]
    assert ((arrays["gop"] >= 0) & (arrays["gop"] < 2)).all()
    assert arrays["top"].shape == arrays["left"].shape == (2, 3)
    assert arrays["classes"].tolist() == list(CLASSES)


def test_the_confusion_matrix_counts_videos_by_class(
    teacher_run: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)  # both are taken for the first class
    monkeypatch.setattr(evaluator, "predict", lambda *_: scores)
    evaluate(teacher_run, tiny_store, "--clips", 1)
    rows = list(csv.reader((teacher_run / "confusion.csv").read_text().splitlines()))
    assert rows == [["class \\ taken for", "down", "right"], ["down", "1", "0"], ["right", "1", "0"]]


def test_rows_of_a_confusion_matrix_are_classes() -> None:
    scores = np.eye(3, dtype=np.float32)[[0, 1, 1, 2, 0]]
    found = confusion_matrix(scores, np.array([0, 1, 2, 2, 2], np.int32))
    assert found.tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("num", [2, 50, 400])
def test_confusion_is_drawn_for_any_number_of_classes(num: int) -> None:
    names = ["$x_{", "\u8df3\u8dc3\n", "a" * 300] + [f"class {i}" for i in range(num)]
    picture = draw_confusion(np.eye(num, dtype=np.int64), names[:num])
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 2_000_000


def test_the_picture_is_darker_where_more_of_a_class_are() -> None:
    right, wrong = (imread(BytesIO(draw_confusion(matrix, CLASSES))) for matrix in (EYE, 1 - EYE))
    height, width = right.shape[0] // 4, right.shape[1] // 4
    corner = [picture[height, width, :3].mean() for picture in (right, wrong)]
    assert corner[0] < 0.5 < corner[1]


def test_files_of_an_evaluation_are_the_same_every_time(teacher_run: Path, tiny_store: Path) -> None:
    found = []
    for _ in range(2):
        evaluate(teacher_run, tiny_store, "--clips", 2)
        found.append({name: (teacher_run / name).read_bytes() for name in FILES})
    assert found[0] == found[1]


# Intervals over videos


def test_the_bootstrap_agrees_with_the_binomial_law() -> None:
    """Of 400 videos 300 are right: 0.75, standard error sqrt(0.75 * 0.25 / 400) = 0.02165."""
    values = np.zeros((400, 2))
    values[:300, 0], values[:, 1] = 1, 1
    (low, high), certain = bootstrap(values)
    assert low == pytest.approx(0.75 - 1.96 * 0.02165, abs=0.006)
    assert high == pytest.approx(0.75 + 1.96 * 0.02165, abs=0.006)
    assert certain.tolist() == [1, 1]
    assert np.array_equal(bootstrap(values), bootstrap(values))
    assert not np.array_equal(bootstrap(values), bootstrap(values, seed=1))


def test_clips_of_a_video_are_resampled_together() -> None:
    """Twenty videos whose five clips agree tell no more than twenty clips would."""
    labels, rng = np.zeros(20, np.int32), np.random.default_rng(0)
    of_videos = np.stack([1 - (wrong := (rng.random(20) < 0.4)), wrong], 1).astype(np.float32)
    found = evaluator.describe_scores(of_videos.repeat(5, axis=0), labels, CLASSES)
    assert found["intervals"]["clip/top1"] == pytest.approx(found["intervals"]["video/top1"])
    low, high = found["intervals"]["clip/top1"]
    assert high - low > 0.3


# Several runs


def test_several_runs_have_a_mean_over_splits_with_an_interval_over_seeds(
    runs: dict[tuple[str, int], Path], two_splits: Path
) -> None:
    done = evaluate(*runs.values(), two_splits, "--clips", 2, "--json")
    assert done.status == 0, done.err
    told = json.loads(done.out)
    places: list[Any] = [(result["split"], result["training_seed"]) for result in told["runs"]]
    assert places == list(runs)
    shares = dict(zip(places, (result["clip/top1"] for result in told["runs"]), strict=True))
    by_seed = [(shares["one", seed] + shares["two", seed]) / 2 for seed in (0, 1)]
    mean = told["mean"]["clip/top1"]
    assert (mean["mean"], mean["num"]) == (pytest.approx(np.mean(by_seed)), 2)
    assert mean["half_width"] == pytest.approx(12.7062 * abs(by_seed[0] - by_seed[1]) / 2, abs=1e-6)
    assert "mean over 2 splits, 2 seeds" in done.err.splitlines()
    assert "trained on" not in done.err


def test_runs_that_have_no_mean_are_refused_before_any_work(
    runs: dict[tuple[str, int], Path], two_splits: Path
) -> None:
    done = evaluate(runs["one", 0], runs["two", 1], two_splits)
    assert "expected every seed with every split, once" in error_line(done)


def test_a_split_whose_test_videos_were_trained_on_is_warned_of(
    runs: dict[tuple[str, int], Path], two_splits: Path
) -> None:
    run = runs["one", 0]
    done = evaluate(run, two_splits, "--clips", 1, "--split", "two")
    assert done.status == 0
    assert f"warning: {run} was trained on 6 of the 6 test videos of two: its split is one" in done.err.splitlines()


def test_a_result_names_the_weights_that_it_is_of(teacher_run: Path, tiny_store: Path) -> None:
    last, best = (
        json.loads(evaluate(teacher_run, tiny_store, "--clips", 1, "--checkpoint", name, "--json").out)
        for name in ("checkpoint.pt", "best.pt")
    )
    assert (last["checkpoint"], best["checkpoint"]) == ("checkpoint.pt", "best.pt")
    states = [torch.load(teacher_run / name, weights_only=True)["progress"] for name in ("checkpoint.pt", "best.pt")]
    assert (last["weights_checksum"] == best["weights_checksum"]) == (states[0] == states[1])
