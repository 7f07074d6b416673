"""Training as a user does it: learns, and mimics its teacher."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tiny_runs import STEPS_AN_EPOCH, TEACHER, run_command, write_recipe

from mfcd_core.clip import CLIP_FORMATS
from mfcd_train import trainer
from mfcd_train.checkpoint import CHECKPOINT, Progress, load_checkpoint
from mfcd_train.models.mfnet3d import HINT_LAYERS
from mfcd_train.optimizers import OPTIMIZERS
from mfcd_train.runlog import METRICS, RUN
from mfcd_train.train import main
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
from training import damage_only_gop, is_same, last_line, measured, train, weights_of


@pytest.fixture
def every_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_STEPS", 1)


@pytest.mark.usefixtures("every_step_logged")
def test_a_teacher_overfits_a_few_videos(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    done = train(tiny_store, teacher_recipe, tmp_path / "run", "--set", "optim.epochs=15", "--json")
    assert done.status == 0, done.err
    records = [record for record in measured(tmp_path / "run") if "loss/total" in record]
    assert [record["step"] for record in records] == list(range(1, 46))
    losses = [record["loss/total"] for record in records]
    assert np.mean(losses[-6:]) < 0.25 * np.mean(losses[:3])
    assert np.mean([record["clip/top1"] for record in records[-6:]]) == 1
    assert json.loads(done.out)["steps"] == 15 * STEPS_AN_EPOCH


def test_a_run_folder_says_how_far_it_came(teacher_run: Path) -> None:
    assert {"recipe.toml", RUN, METRICS, CHECKPOINT} <= {path.name for path in teacher_run.iterdir()}
    assert Progress(**load_checkpoint(teacher_run)["progress"]) == Progress(4, 0, 4 * STEPS_AN_EPOCH)
    epochs = [record for record in measured(teacher_run) if "validation/clip/top1" in record]
    assert [(record["epoch"], record["step"]) for record in epochs] == [(1, 3), (2, 6), (3, 9), (4, 12)]
    steps = [record for record in measured(teacher_run) if "loss/total" in record]
    assert [(step["step"], step["epoch"]) for step in steps] == [(3, 0), (6, 1), (9, 2), (10, 3), (12, 3)]
    step = steps[-1]
    assert set(step) == {"step", "epoch", "loss/ce", "loss/total", "clip/top1", "gradient_norm", "learning_rate"}
    assert step["loss/ce"] == step["loss/total"]


def test_validation_comes_as_often_as_asked_and_at_the_end(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    train(tiny_store, teacher_recipe, tmp_path, "--set", "run.validate_every=3")
    epochs = {r["epoch"]: "validation/clip/top1" in r for r in measured(tmp_path) if "loss/total" not in r}
    assert epochs == {1: False, 2: False, 3: True, 4: True}


@pytest.mark.parametrize("clip_format", [name for name in CLIP_FORMATS if name not in {"rgb", "iframe"}])
def test_every_clip_format_trains_without_a_teacher(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, clip_format: str
) -> None:
    settings = ("--set", f"data.clip_format={clip_format}", "--set", "optim.epochs=1")
    assert train(tiny_store, teacher_recipe, tmp_path, *settings).status == 0
    channels = weights_of(tmp_path)["conv1.conv.weight"].shape[1]
    assert channels == CLIP_FORMATS[clip_format].num_channels


@pytest.mark.parametrize("setting", ["run.precision=bf16-mixed", "data.batch_size=99", "run.loader_threads=5"])
def test_settings_that_change_the_way_not_the_goal(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, setting: str
) -> None:
    assert train(tiny_store, teacher_recipe, tmp_path, "--set", setting, "--set", "optim.epochs=2").status == 0
    assert all(weight.isfinite().all() for weight in weights_of(tmp_path).values())
    assert load_checkpoint(tmp_path)["progress"]["step"] == (2 if "batch" in setting else 6)


def test_the_learning_rate_follows_the_schedule(tiny_store: Path, tmp_path: Path) -> None:
    optim = {**TEACHER["optim"], "schedule": "step", "milestones": [2, 3], "gamma": 0.1}
    recipe = write_recipe(tmp_path / "step.toml", {**TEACHER, "optim": optim})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "LOG_EVERY_STEPS", 1)
        train(tiny_store, recipe, tmp_path / "run")
    rates = [record["learning_rate"] for record in measured(tmp_path / "run") if "learning_rate" in record]
    assert rates == pytest.approx([0.05] * 6 + [0.005] * 3 + [0.0005] * 3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_learning_rate_of_zero_learns_nothing(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = (f"optim.optimizer={optimizer}", "optim.milestones=[0]", "optim.gamma=0", "optim.schedule=step")
    arguments = (tiny_store, teacher_recipe, tmp_path, *(word for change in changes for word in ("--set", change)))
    with monkeypatch.context() as patch:
        watch = Watch(patch, stop=True)
        train(*arguments)
    assert train(*arguments).status == 0
    learnt = {name: weight for name, weight in weights_of(tmp_path).items() if "running" not in name}
    assert [name for name in learnt if not torch.equal(learnt[name], watch.before[name])] == [
        name for name in learnt if "num_batches" in name
    ]


def test_a_student_logs_all_terms_of_its_loss(student_run: Path) -> None:
    step = next(record for record in measured(student_run) if "loss/total" in record)
    total = step["loss/ce"] + 0.1 * step["loss/hint"] + 0.5 * step["loss/soft"]
    assert step["loss/total"] == pytest.approx(total, rel=1e-5)
    assert min(step["loss/ce"], step["loss/hint"], step["loss/soft"]) > 0
    assert (step["weight/hint"], step["weight/soft"]) == pytest.approx((0.1, 0.5))
    layers = [step[f"loss/hint/{name}"] for name in HINT_LAYERS]
    assert sum(layers) == pytest.approx(step["loss/hint"], rel=1e-5)


class Watch:
    """What a `Trainer` has before and after training; with `stop`, it does not train at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stop: bool = False) -> None:
        self.before: dict[str, Tensor] = {}
        self.trainers: list[Trainer] = []
        fit = Trainer.fit

        def watched(subject: Trainer, progress: Progress) -> Progress:
            self.trainers.append(subject)
            watched_model = subject.model if stop else subject.teacher
            assert watched_model is not None
            self.before = {name: weight.clone() for name, weight in watched_model.state_dict().items()}
            return progress if stop else fit(subject, progress)

        monkeypatch.setattr(Trainer, "fit", watched)


def test_a_teacher_is_left_bit_for_bit(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, files = Watch(monkeypatch), {path: path.read_bytes() for path in teacher_run.iterdir()}
    assert train(tiny_store, student_recipe, tmp_path / "run", "--teacher", teacher_run).status == 0
    teacher = watch.trainers[0].teacher
    assert teacher is not None
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert is_same(teacher.state_dict(), watch.before)
    assert is_same(teacher.state_dict(), weights_of(teacher_run))
    assert {path: path.read_bytes() for path in teacher_run.iterdir()} == files
    assert not is_same(weights_of(tmp_path / "run"), weights_of(teacher_run))


def start_of(monkeypatch: pytest.MonkeyPatch, store: Path, *arguments: object) -> tuple[dict[str, Tensor], str]:
    """The weights from which a run would start, and what it says."""
    with monkeypatch.context() as patch:
        watch = Watch(patch, stop=True)
        done = run_command(main, store, "--device", "cpu", *arguments)
        assert done.status == 0, done.err
        return watch.before, done.err


def test_a_student_starts_from_its_teacher_unless_told_otherwise(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--recipe", student_recipe, "--teacher", teacher_run, "--out")
    weights, said = start_of(monkeypatch, tiny_store, *common, tmp_path / "from_teacher")
    assert is_same(weights, weights_of(teacher_run))
    assert f"starting from the weights of {teacher_run}" in said
    random, said = start_of(monkeypatch, tiny_store, *common, tmp_path / "random", "--init", "none")
    assert not is_same(random, weights)
    assert "starting from random weights" in said


def test_any_run_with_fitting_weights_may_be_the_start(
    tiny_store: Path, teacher_recipe: Path, student_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--recipe", teacher_recipe, "--init", student_run, "--out", tmp_path / "run")
    weights, said = start_of(monkeypatch, tiny_store, *common)
    assert is_same(weights, weights_of(student_run))
    assert f"starting from the weights of {student_run}" in said


def test_random_weights_come_from_the_seed_alone(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(out: str, seed: int) -> dict[str, Tensor]:
        torch.rand(seed + 1)  # whatever was drawn before
        arguments = ("--recipe", teacher_recipe, "--out", tmp_path / out, "--seed", seed)
        return start_of(monkeypatch, tiny_store, *arguments)[0]

    first = start("a", 3)
    assert is_same(first, start("b", 3))
    assert not is_same(first, start("c", 4))


def test_a_bad_gop_stops_training_unless_told_otherwise(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    """The video of a single GOP loses a bit of it: every epoch draws that one."""
    folder = shutil.copytree(tiny_store, tmp_path / "store")
    damage_only_gop(folder, "down/1")
    stopped = train(folder, teacher_recipe, tmp_path / "one")
    assert stopped.status == 2
    assert "GOP 0 of 'down/1': iframe/luma is damaged" in last_line(stopped)
    arguments = ("--set", "run.on_bad_gop=skip", "--set", "optim.epochs=2")
    done = train(folder, teacher_recipe, tmp_path / "other", *arguments)
    assert done.status == 0
    assert done.err.count("warning: skipped a GOP") == 2
    assert "warning: epoch 2: 1 GOPs could not be read and were left out" in done.err
