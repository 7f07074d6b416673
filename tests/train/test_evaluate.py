"""`mfcd-eval RUN STORE`: figures against arithmetic on the clip scores themselves."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from synthetic import random_gop, write_store
from tiny_runs import NUM_GOPS, run_command

from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train import evaluator
from mfcd_train.build import build_fabric, load_model
from mfcd_train.checkpoint import CHECKPOINT, load_checkpoint
from mfcd_train.dataset import evaluation_draws, split_rows
from mfcd_train.evaluate import main
from mfcd_train.evaluator import evaluate, predict
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tiny_runs import Outcome

KEYS = {
    "run", "store", "clip/top1", "clip/top5", "video/top1", "video/top5", "chance", "per_class", "num_videos",
    "num_videos_with_repeated_gops", "clips", "protocol", "seed", "split", "frames", "clip_format", "store_settings",
    "store_checksum", "weights_checksum", "intervals", "interval_method", "checkpoint", "training_seed",
}  # fmt: skip


def eval_command(*arguments: object) -> Outcome:
    return run_command(main, *arguments, "--device", "cpu")


def eval_json(*arguments: object) -> dict[str, Any]:
    done = eval_command(*arguments, "--json")
    assert done.status == 0, done.err
    result: dict[str, Any] = json.loads(done.out)
    return result


def scores_of(run: Path, store: Path, clips: int, seed: int, protocol: str) -> tuple[NDArray[np.float32], list[int]]:
    """Softmax of each clip of each test video, (videos, clips, classes), and the labels of the videos."""
    log, opened = open_run(run), Store(store)
    rows = split_rows(opened, "")["test"]
    fabric = build_fabric(log.recipe, "cpu")
    draws = evaluation_draws(opened, rows, clips, seed, protocol)
    scores = predict(fabric, load_model(log, fabric), opened, log.recipe, draws)
    return scores.reshape(len(rows), clips, -1), opened.videos.labels[rows].tolist()


@pytest.fixture(scope="module")
def many_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise under the class names of the tiny store, so that a network is right and wrong; another frame size."""
    random, settings = np.random.default_rng(2), StoreSettings(48, 40)
    num_gops = {f"{name}/{number}": number % 5 + 1 for name in ("down", "right") for number in range(8)}
    videos = {i: [random_gop(settings, random) for _ in range(num)] for i, num in num_gops.items()}
    test = [i for i in videos if i not in ("down/0", "right/0", "right/1")]
    return write_store(
        tmp_path_factory.mktemp("many"), settings, videos, {"s": {"train": ["down/0", "right/0"], "test": test}}
    )


# The figures


def test_the_result_has_all_that_a_figure_needs_to_be_compared(student_run: Path, tiny_store: Path) -> None:
    result = eval_json(student_run, tiny_store)
    assert set(result) == KEYS
    told = {key: result[key] for key in ("clips", "protocol", "seed", "split", "frames", "clip_format", "chance")}
    assert told == {
        "clips": 15, "protocol": "random", "seed": 0, "split": "only", "frames": 12, "clip_format": "augmented",
        "chance": 0.5,
    }  # fmt: skip
    assert (result["run"], result["store"]) == (str(student_run), str(tiny_store))
    assert result["store_settings"]["residual_step"] == 2
    assert (result["num_videos"], set(result["per_class"])) == (2, {"down", "right"})


@pytest.mark.parametrize("protocol", ["random", "spread"])
def test_accuracies_are_those_of_the_clip_scores(teacher_run: Path, many_videos: Path, protocol: str) -> None:
    result = eval_json(teacher_run, many_videos, "--clips", 4, "--seed", 5, "--protocol", protocol)
    scores, labels = scores_of(teacher_run, many_videos, 4, 5, protocol)
    assert scores.shape == (13, 4, 2)
    assert scores.sum(2) == pytest.approx(1, abs=1e-5)
    right_clips, right_videos, of_class = 0, 0, {0: [], 1: []}
    for clips, label in zip(scores.tolist(), labels, strict=True):
        right_clips += sum(clip[label] > clip[1 - label] for clip in clips)
        mean = [sum(clip[i] for clip in clips) / len(clips) for i in (0, 1)]
        right_videos += mean[label] > mean[1 - label]
        of_class[label].append(mean[label] > mean[1 - label])
    assert result["clip/top1"] == pytest.approx(right_clips / (13 * 4))
    assert result["video/top1"] == pytest.approx(right_videos / 13)
    assert result["clip/top5"] == result["video/top5"] == 1
    expected = {name: sum(of_class[i]) / len(of_class[i]) for i, name in enumerate(("down", "right"))}
    assert result["per_class"] == pytest.approx(expected)
    assert 0 < result["clip/top1"] < 1


def test_softmax_is_averaged_not_votes(teacher_run: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sure clip of three outweighs two that waver."""
    clips = np.array([[0.9, 0.1], [0.45, 0.55], [0.45, 0.55], [0.1, 0.9], [0.55, 0.45], [0.55, 0.45]], np.float32)
    monkeypatch.setattr(evaluator, "predict", lambda *_: clips)
    result = eval_json(teacher_run, tiny_store, "--clips", 3)
    assert result["clip/top1"] == pytest.approx(1 / 3)
    assert result["video/top1"] == 1
    assert result["per_class"] == {"down": 1, "right": 1}


def test_a_run_is_evaluated_the_same_for_the_same_seed(teacher_run: Path, many_videos: Path) -> None:
    arguments = (teacher_run, many_videos, "--clips", 3, "--seed", 3)
    assert eval_json(*arguments) == eval_json(*arguments)
    seeds = [scores_of(teacher_run, many_videos, 5, seed, "random")[0] for seed in (3, 3, 4)]
    assert np.array_equal(seeds[0], seeds[1])
    assert not np.array_equal(seeds[0], seeds[2])


def test_the_spread_protocol_does_not_depend_on_the_seed(teacher_run: Path, many_videos: Path) -> None:
    one, other = (scores_of(teacher_run, many_videos, 5, seed, "spread")[0] for seed in (0, 1))
    assert np.array_equal(one, other)
    result = eval_json(teacher_run, many_videos, "--protocol", "spread", "--clips", 5)
    assert (result["protocol"], result["clips"]) == ("spread", 5)


def test_scores_do_not_depend_on_the_company_in_a_batch(teacher_run: Path, many_videos: Path) -> None:
    """Batch statistics are those of training; an evaluation leaves them as they are."""
    log, opened = open_run(teacher_run), Store(many_videos)
    fabric = build_fabric(log.recipe, "cpu")
    model = load_model(log, fabric)
    draws = evaluation_draws(opened, np.arange(6), 1, 0, "spread")
    together = predict(fabric, model, opened, log.recipe, draws)
    alone = np.concatenate([predict(fabric, model, opened, log.recipe, draws[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    weights = load_checkpoint(teacher_run)["model"]
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_videos_shorter_than_the_protocol_are_counted(teacher_run: Path, tiny_store: Path, clips: int) -> None:
    assert NUM_GOPS[-1] == 2
    done = eval_command(teacher_run, tiny_store, "--clips", clips)
    counted = json.loads((teacher_run / "evaluation.json").read_text())["num_videos_with_repeated_gops"]
    assert counted == (2 if clips == 3 else 0)
    assert ("2 videos have fewer GOPs than clips" in done.err) == (clips == 3)


def test_a_class_without_test_videos_has_no_accuracy(teacher_run: Path, tmp_path: Path) -> None:
    gop = random_gop(StoreSettings(32, 32), np.random.default_rng(0))
    videos = {i: [gop] for i in ("down/1", "down/2", "right/1")}
    splits = {"s": {"train": ["down/1", "right/1"], "test": ["down/2"]}}
    result = eval_json(teacher_run, write_store(tmp_path, StoreSettings(32, 32), videos, splits))
    assert list(result["per_class"]) == ["down"]


# The command


def test_the_result_is_kept_in_the_run_and_said(teacher_run: Path, tiny_store: Path) -> None:
    done = eval_command(teacher_run, tiny_store, "--json")
    result = json.loads(done.out)
    assert json.loads((teacher_run / "evaluation.json").read_text()) == result
    lines = done.err.splitlines()
    assert f"{teacher_run}: 2 videos of only, 15 clips each (random), rgb" in lines
    low, high = result["intervals"]["video/top1"]
    said = f"video top-1 {result['video/top1']:6.1%} ({low:.1%} to {high:.1%})   top-5 100.0% (100.0% to 100.0%)"
    assert said in lines
    assert "chance       50.0%" in lines
    assert eval_command(teacher_run, tiny_store).out == ""


def test_accuracy_may_be_named(teacher_run: Path, tiny_store: Path) -> None:
    named = run_command(main, "accuracy", teacher_run, tiny_store, "--device", "cpu", "--json")
    assert json.loads(named.out) == eval_json(teacher_run, tiny_store)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["accuracy", "--help"]])
def test_help_needs_no_run(arguments: Sequence[str]) -> None:
    done = run_command(main, *arguments)
    assert done.status == 0
    assert "RUN" in done.out


def error_line(outcome: Outcome) -> str:
    assert outcome.status == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_store_of_other_classes_is_refused(teacher_run: Path, tmp_path: Path) -> None:
    gop = random_gop(StoreSettings(32, 32), np.random.default_rng(0))
    store = write_store(tmp_path, StoreSettings(32, 32), {"left/1": [gop], "up/1": [gop]})
    before = {path.name: path.read_bytes() for path in teacher_run.iterdir()}
    line = error_line(eval_command(teacher_run, store))
    assert "knows classes ['down', 'right'] ..., " in line
    assert "has ['left', 'up']" in line
    assert {path.name: path.read_bytes() for path in teacher_run.iterdir()} == before


def test_an_unknown_split_is_named(teacher_run: Path, tiny_store: Path) -> None:
    line = error_line(eval_command(teacher_run, tiny_store, "--split", "split9"))
    assert line == "error: split 'split9': expected one of only"


def test_a_folder_that_is_no_run_or_has_no_checkpoint_is_refused(
    teacher_run: Path, tiny_store: Path, tmp_path: Path
) -> None:
    assert "no readable run.json" in error_line(eval_command(tmp_path, tiny_store))
    shutil.copytree(teacher_run, tmp_path / "run")
    (tmp_path / "run" / CHECKPOINT).unlink()
    assert "no checkpoint.pt; expected a run of mfcd-train" in error_line(eval_command(tmp_path / "run", tiny_store))


def test_a_missing_store_is_named(teacher_run: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in error_line(eval_command(teacher_run, tmp_path / "nowhere"))


@pytest.mark.parametrize("arguments", [["--clips", 0], ["--protocol", "all"], ["--seed", -1], ["--device"]])
def test_wrong_options_are_usage_errors(teacher_run: Path, tiny_store: Path, arguments: Sequence[object]) -> None:
    outcome = run_command(main, teacher_run, tiny_store, *arguments)
    assert outcome.status == 2
    assert str(arguments[0]) in outcome.err
    assert "Traceback" not in outcome.err


def test_a_network_that_says_nothing_is_never_right(
    teacher_run: Path, many_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "predict", lambda *arguments: np.full((len(arguments[4]), 2), 0.5, np.float32))
    log, opened = open_run(teacher_run), Store(many_videos)
    fabric = build_fabric(log.recipe, "cpu")
    model = load_model(log, fabric)
    result = evaluate(fabric, model, opened, log.recipe, split="", clips=3, seed=0, protocol="spread").result
    assert result["clip/top1"] == result["video/top1"] == 0
    assert set(result["per_class"].values()) == {0}
