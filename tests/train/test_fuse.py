"""`mfcd-eval fuse`: late fusion against arithmetic by hand, and what is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from synthetic import random_gop, write_store
from tiny_runs import MOTIONS, run_command
from training import error_line

from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train import evaluator
from mfcd_train.build import build_fabric, load_model
from mfcd_train.dataset import evaluation_draws, split_rows
from mfcd_train.evaluate import main
from mfcd_train.evaluator import predict
from mfcd_train.fuse import fuse_scores
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tiny_runs import Outcome


@pytest.fixture
def runs(teacher_run: Path, student_run: Path) -> tuple[Path, Path]:
    return teacher_run, student_run


def fuse(*arguments: object) -> Outcome:
    return run_command(main, "fuse", *arguments, "--device", "cpu")


def written(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return result


def test_scores_are_the_mean_by_weight() -> None:
    one, other = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32), np.array([[1.0, 0.0], [0.1, 0.9]], np.float32)
    fused = fuse_scores([one, other], [3, 1])
    np.testing.assert_allclose(fused, [[0.625, 0.375], [0.7, 0.3]], rtol=1e-6)
    assert fused.dtype == np.float32


@pytest.mark.parametrize(
    ("weights", "video_top1", "per_class"),
    [
        # clips of `down`: (2 x 0.2 + 0.9) / 3 and (2 x 0.3 + 0.9) / 3, of `right`: (2 x 0.7 + 0.4) / 3 and the same
        (("--weights", "2,1"), 0.5, {"down": 0.0, "right": 1.0}),
        ((), 1.0, {"down": 1.0, "right": 1.0}),
        (("--weights", "1,9"), 0.5, {"down": 1.0, "right": 0.0}),
    ],
)
def test_accuracy_is_that_of_the_fused_scores(
    tiny_store: Path,
    runs: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: Sequence[str],
    video_top1: float,
    per_class: dict[str, float],
) -> None:
    """Two clips of a video of each class; the first run is wrong about `down`, the second one about `right`."""
    of_class = {"rgb": [0.2, 0.3, 0.3, 0.3], "augmented": [0.9, 0.9, 0.6, 0.6]}  # scores of `down`

    def scores(*arguments: Any) -> Any:  # noqa: ANN401
        down = np.array(of_class[arguments[3].data.clip_format], np.float32)
        return np.stack([down, 1 - down], axis=1)

    monkeypatch.setattr(evaluator, "predict", scores)
    done = fuse(tiny_store, *runs, "--out", tmp_path / "fused", "--clips", 2, *weights)
    assert done.status == 0, done.err
    assert written(tmp_path / "fused")["video/top1"] == video_top1
    assert written(tmp_path / "fused")["per_class"] == per_class


def test_a_fusion_is_of_the_clips_that_each_run_is_evaluated_with(
    tiny_store: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """Against the scores of `predict` on the draws of `mfcd-eval RUN STORE`."""
    store = Store(tiny_store)
    draws = evaluation_draws(store, split_rows(store, "")["test"], 3, 5, "random")
    expected = np.zeros((6, 2))
    for run, weight in zip(runs, (0.25, 0.75), strict=True):
        log = open_run(run)
        fabric = build_fabric(log.recipe, "cpu")
        expected += weight * predict(fabric, load_model(log, fabric), store, log.recipe, draws)
    right = expected.argmax(1) == store.videos.labels[draws.video]
    arguments = ("--clips", 3, "--seed", 5, "--weights", "1,3", "--json")
    result = json.loads(fuse(tiny_store, *runs, "--out", tmp_path / "fused", *arguments).out)
    assert result["clip/top1"] == pytest.approx(right.mean())
    assert result == written(tmp_path / "fused")


def test_a_fusion_has_what_an_evaluation_has_and_names_its_runs(
    tiny_store: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    teacher_run, _ = runs
    done = fuse(tiny_store, *runs, "--out", tmp_path / "fused", "--clips", 2, "--weights", "2,1")
    how = "2 videos of only, 2 clips each (random), rgb + augmented"
    assert f"{tmp_path / 'fused'}: {how}" in done.err.splitlines()
    result = written(tmp_path / "fused")
    run_command(main, teacher_run, tiny_store, "--device", "cpu", "--clips", 2)
    alone = written(teacher_run)
    of_one_run = {"checkpoint", "training_seed"}
    assert result.keys() == alone.keys() - of_one_run | {"runs"}
    files = {path.name for path in (tmp_path / "fused").iterdir()}
    assert files == {"evaluation.json", "scores.npz", "confusion.csv", "confusion.png"}
    drawn = ("clips", "protocol", "seed", "split", "num_videos", "chance", "store_checksum", "store_settings")
    assert {name: result[name] for name in drawn} == {name: alone[name] for name in drawn}
    assert result["runs"] == [
        {"run": str(run), "weight": weight, "training_seed": 0} for run, weight in zip(runs, (2.0, 1.0), strict=True)
    ]
    assert result["weights_checksum"].startswith(alone["weights_checksum"] + " + ")
    assert alone["run"] == str(teacher_run)
    assert result["run"] == str(tmp_path / "fused")


@pytest.mark.parametrize("weights", ["1", "1,2,3", "1,x", "1,0", "1,-1", "1,inf", "1,nan", ""])
def test_weights_that_are_not_one_a_run_are_refused(
    tiny_store: Path, teacher_run: Path, student_run: Path, tmp_path: Path, weights: str
) -> None:
    done = fuse(tiny_store, teacher_run, student_run, "--out", tmp_path / "fused", f"--weights={weights}")
    assert error_line(done) == f"--weights {weights}: expected 2 numbers above 0, one a run, such as 2,1,1"
    assert not (tmp_path / "fused").exists()


def test_one_run_is_no_fusion(tiny_store: Path, teacher_run: Path, tmp_path: Path) -> None:
    line = error_line(fuse(tiny_store, teacher_run, "--out", tmp_path / "fused"))
    assert line == "fuse of one run: expected two or more; `mfcd-eval RUN STORE` evaluates one"


def test_a_store_of_other_classes_is_refused(teacher_run: Path, student_run: Path, tmp_path: Path) -> None:
    gop = random_gop(StoreSettings(32, 32), np.random.default_rng(0))
    store = write_store(tmp_path, StoreSettings(32, 32), {"left/1": [gop], "up/1": [gop]})
    line = error_line(fuse(store, teacher_run, student_run, "--out", tmp_path / "fused"))
    assert line.startswith(f"{teacher_run} knows classes ['down', 'right'] ..., ")


def test_runs_of_other_splits_need_one_to_be_chosen(teacher_run: Path, student_run: Path, tmp_path: Path) -> None:
    gop, ids = random_gop(StoreSettings(32, 32), np.random.default_rng(0)), [f"{c}/{i}" for c in MOTIONS for i in "12"]
    roles = {"train": ids[::2], "test": ids[1::2]}
    store = write_store(
        tmp_path / "store", StoreSettings(32, 32), {i: [gop] for i in ids}, {"only": roles, "other": roles}
    )
    other = shutil.copytree(student_run, tmp_path / "run")
    recipe = (other / "recipe.toml").read_text()
    (other / "recipe.toml").write_text(recipe.replace('split = ""', 'split = "other"'))
    line = error_line(fuse(store, teacher_run, other, "--out", tmp_path / "fused"))
    assert line == "runs were trained on splits only, other: expected one; choose it by --split"
    assert fuse(store, teacher_run, other, "--out", tmp_path / "fused", "--split", "only").status == 0
