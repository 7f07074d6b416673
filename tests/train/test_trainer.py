"""Training as a user does it: learns, mimics, resumes bit for bit, and says in one line why it cannot begin."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from synthetic import random_gop, write_store
from tiny_runs import STEPS_AN_EPOCH, TEACHER, run_command, write_recipe, write_tiny_store

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train import trainer
from mfcd_train.assemble import build_assembler
from mfcd_train.checkpoint import CHECKPOINT, Progress, load_checkpoint, save_checkpoint
from mfcd_train.models.mfnet3d import MFNet3D
from mfcd_train.optimizers import OPTIMIZERS
from mfcd_train.runlog import METRICS, RUN, open_run
from mfcd_train.train import main
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiny_runs import Outcome
    from torch import Tensor

TIMINGS = {"clips_per_second", "data_wait"}


def train(store: Path, recipe: Path, out: Path, *arguments: object) -> Outcome:
    return run_command(main, store, "--recipe", recipe, "--out", out, "--device", "cpu", *arguments)


def weights_of(run: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_checkpoint(run)["model"]
    return weights


def is_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(map(torch.equal, one.values(), other.values()))


def measured(run: Path) -> list[dict[str, Any]]:
    """All records, without what a clock says."""
    records = open_run(run).read_metrics()
    return [{name: value for name, value in record.items() if name not in TIMINGS} for record in records]


def assert_same_run(one: Path, other: Path) -> None:
    mine, yours = load_checkpoint(one), load_checkpoint(other)
    assert is_same(mine["model"], yours["model"])
    assert mine["progress"] == yours["progress"]
    moments, expected = (state["optimizer"]["state"] for state in (mine, yours))
    assert len(moments) == len(expected) > 10
    assert all(is_same(moments[i], expected[i]) for i in expected)
    assert measured(one) == measured(other)


def error_line(outcome: Outcome) -> str:
    """The one line of a command that failed before it began."""
    assert outcome.status == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.fixture
def every_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_STEPS", 1)


# Learning


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
    (step,) = (record for record in measured(teacher_run) if "loss/total" in record)
    assert set(step) == {"step", "epoch", "loss/ce", "loss/total", "clip/top1", "learning_rate"}
    assert (step["step"], step["epoch"], step["loss/ce"]) == (10, 3, step["loss/total"])


def test_validation_comes_as_often_as_asked_and_at_the_end(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    train(tiny_store, teacher_recipe, tmp_path, "--set", "run.validate_every=3")
    epochs = {r["epoch"]: "validation/clip/top1" in r for r in measured(tmp_path) if "loss/total" not in r}
    assert epochs == {1: False, 2: False, 3: True, 4: True}


@pytest.mark.parametrize("clip_format", [name for name in CLIP_FORMATS if name != "rgb"])
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


# Teacher and student


def test_a_student_logs_all_terms_of_its_loss(student_run: Path) -> None:
    (step,) = (record for record in measured(student_run) if "loss/total" in record)
    total = step["loss/ce"] + 0.1 * step["loss/hint"] + 0.5 * step["loss/soft"]
    assert step["loss/total"] == pytest.approx(total, rel=1e-5)
    assert min(step["loss/ce"], step["loss/hint"], step["loss/soft"]) > 0


def test_teacher_and_student_see_the_same_places(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher is fed `rgb` and the student `augmented`, both from one batch: GOPs, crops and flips."""
    batches, fed = [], []
    losses, forward = Trainer._losses, MFNet3D.forward_with_hints
    monkeypatch.setattr(Trainer, "_losses", lambda self, batch: (batches.append(batch), losses(self, batch))[1])
    monkeypatch.setattr(MFNet3D, "forward_with_hints", lambda self, x: (fed.append(x.clone()), forward(self, x))[1])
    with monkeypatch.context() as patch:
        interrupt_at_step(patch, 2)
        train(tiny_store, student_recipe, tmp_path, "--teacher", teacher_run)
    assemble = build_assembler(Store(tiny_store), open_run(tmp_path).recipe)
    assert (len(batches), len(fed)) == (2, 4)
    for batch, teacher, student in zip(batches, fed[::2], fed[1::2], strict=True):
        clips = assemble(batch, ["rgb", "augmented"])
        assert torch.equal(teacher, clips["rgb"])
        assert torch.equal(student, clips["augmented"])
        assert torch.equal(teacher[:, :, 0], student[:, :, 0])
        assert not torch.equal(teacher[:, :, 1:], student[:, :, 1:])


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


# Resuming


@pytest.fixture(scope="module")
def short_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of three steps, crops and flips included."""
    optim = {**TEACHER["optim"], "epochs": 2}
    return write_recipe(tmp_path_factory.mktemp("short") / "short.toml", {**TEACHER, "optim": optim})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path, short_recipe: Path) -> Path:
    """A run from beginning to end, every step logged."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "LOG_EVERY_STEPS", 1)
        assert train(tiny_store, short_recipe, folder).status == 0
    return folder


def interrupt_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole_step = Trainer._train_step

    def interrupted(subject: Trainer, batch: Any, progress: Progress, num_batches: int) -> dict[str, Any]:  # noqa: ANN401
        if progress.step == step:
            raise KeyboardInterrupt
        return whole_step(subject, batch, progress, num_batches)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)


@pytest.mark.usefixtures("every_step_logged")
@pytest.mark.parametrize(("step", "epoch", "resumed_step"), [(1, 0, 0), (3, 1, 3), (5, 1, 3)])
def test_an_interrupted_run_goes_on_bit_for_bit(
    tiny_store: Path, short_recipe: Path, undisturbed: Path, tmp_path: Path, step: int, epoch: int, resumed_step: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(patch, step)
        broken = train(tiny_store, short_recipe, tmp_path)
    assert broken.status == 130
    assert "the same command goes on from here" in broken.err
    resumed = train(tiny_store, short_recipe, tmp_path)
    assert resumed.status == 0
    if resumed_step:
        assert f"at epoch {epoch} of 2, step {resumed_step}" in resumed.err
    assert_same_run(tmp_path, undisturbed)


@pytest.mark.usefixtures("every_step_logged")
@pytest.mark.parametrize("save", [2, 3, 4, 5])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_any_checkpoint_neither_loses_nor_repeats_anything(
    tiny_store: Path, short_recipe: Path, undisturbed: Path, tmp_path: Path, save: int, when: str
) -> None:
    """With a checkpoint after every step, the fourth save is the end of the first epoch."""
    num_saves = 0

    def killed(*arguments: Any) -> None:  # noqa: ANN401
        nonlocal num_saves
        num_saves += 1
        if when == "after" or num_saves < save:
            save_checkpoint(*arguments)
        if num_saves == save:
            raise KeyboardInterrupt

    often = ("--set", "run.checkpoint_seconds=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", killed)
        assert train(tiny_store, short_recipe, tmp_path, *often).status == 130
    resumed = train(tiny_store, short_recipe, tmp_path, *often)
    assert resumed.status == 0
    step = {2: 2, 3: 3, 4: 3, 5: 4}[save] - (when == "before" and save != 4)
    assert f"step {step}" in resumed.err
    assert_same_run(tmp_path, undisturbed)


def test_loader_threads_and_checkpoints_in_between_do_not_change_what_is_learnt(
    tiny_store: Path, short_recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    changes = ("run.checkpoint_seconds=0", "run.loader_threads=1", "run.validate_every=2")
    settings = [word for change in changes for word in ("--set", change)]
    assert train(tiny_store, short_recipe, tmp_path, *settings).status == 0
    assert is_same(weights_of(tmp_path), weights_of(undisturbed))


def test_another_seed_learns_something_else(
    tiny_store: Path, short_recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    train(tiny_store, short_recipe, tmp_path, "--seed", 1)
    assert not is_same(weights_of(tmp_path), weights_of(undisturbed))


def test_adamw_resumes_bit_for_bit(tiny_store: Path, short_recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", "optim.optimizer=adamw", "--set", "optim.learning_rate=0.01")
    assert train(tiny_store, short_recipe, tmp_path / "undisturbed", *settings).status == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(patch, 4)
        assert train(tiny_store, short_recipe, tmp_path / "broken", *settings).status == 130
    assert train(tiny_store, short_recipe, tmp_path / "broken", *settings).status == 0
    assert_same_run(tmp_path / "broken", tmp_path / "undisturbed")


def test_a_student_resumes_bit_for_bit(
    tiny_store: Path, student_recipe: Path, student_run: Path, teacher_run: Path, tmp_path: Path
) -> None:
    arguments = (tiny_store, student_recipe, tmp_path, "--teacher", teacher_run)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(patch, 8)
        assert train(*arguments).status == 130
    assert train(*arguments).status == 0
    assert_same_run(tmp_path, student_run)


def test_a_finished_run_is_left_as_it_is(tiny_store: Path, teacher_recipe: Path, teacher_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in teacher_run.iterdir()}
    written = (teacher_run / CHECKPOINT).stat().st_mtime_ns
    again = train(tiny_store, teacher_recipe, teacher_run, "--json")
    assert again.status == 0
    assert {path.name: path.read_bytes() for path in teacher_run.iterdir()} == before
    assert (teacher_run / CHECKPOINT).stat().st_mtime_ns == written
    assert json.loads(again.out)["epochs"] == 4


def wait_for_checkpoint(run: Path, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the run has a checkpoint, newer than a moment ago, and then a little longer."""
    written = (run / CHECKPOINT).stat().st_mtime_ns if (run / CHECKPOINT).exists() else 0
    while not (run / CHECKPOINT).exists() or (run / CHECKPOINT).stat().st_mtime_ns == written:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    time.sleep(seconds)


@pytest.mark.slow
def test_sigkill_costs_nothing_that_was_recorded(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", "optim.epochs=25", "--set", "run.checkpoint_seconds=0")
    assert train(tiny_store, teacher_recipe, tmp_path / "undisturbed", *settings).status == 0
    program = Path(sys.executable).with_name("mfcd-train")
    killed = tmp_path / "killed"
    command = [program, tiny_store, "--recipe", teacher_recipe, "--out", killed, "--device", "cpu", *settings]
    steps = []
    for seconds in (0.05, 0.31):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for_checkpoint(killed, process, seconds)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        steps.append(load_checkpoint(killed)["progress"]["step"])
    assert 0 < steps[0] < steps[1] < 25 * STEPS_AN_EPOCH
    done = subprocess.run(command, capture_output=True, check=True)
    assert f"step {steps[1]}" in done.stderr.decode()
    assert_same_run(killed, tmp_path / "undisturbed")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_resumes_on_a_gpu(tiny_store: Path, short_recipe: Path, tmp_path: Path) -> None:
    arguments = (main, tiny_store, "--recipe", short_recipe, "--out", tmp_path, "--device", "cuda")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(patch, 4)
        assert run_command(*arguments).status == 130
    resumed = run_command(*arguments)
    assert resumed.status == 0, resumed.err
    assert load_checkpoint(tmp_path)["progress"]["step"] == 2 * STEPS_AN_EPOCH


# Divergence


def last_line(outcome: Outcome) -> str:
    assert outcome.status == 2
    return outcome.err.splitlines()[-1]


def test_a_loss_that_is_no_number_stops_the_run(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    failed = train(tiny_store, teacher_recipe, tmp_path, "--set", "optim.learning_rate=1e30")
    assert last_line(failed).startswith("error: loss is not a number at step 1 (videos ")
    videos = last_line(failed).partition("(videos ")[2].partition(" ...)")[0].split(", ")
    assert len(videos) == 2
    assert {video.partition("/")[0] for video in videos} <= {"down", "right"}
    assert "lower optim.learning_rate; the last checkpoint" in last_line(failed)
    mended = train(tiny_store, teacher_recipe, tmp_path)  # nothing was recorded: the folder is free
    assert mended.status == 0


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(
    tiny_store: Path, short_recipe: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch may ruin the weights after a loss that was fine."""
    whole_step = Trainer._train_step

    def ruinous(subject: Trainer, batch: Any, progress: Progress, num_batches: int) -> dict[str, Any]:  # noqa: ANN401
        record = whole_step(subject, batch, progress, num_batches)
        if progress.step == 5:
            with torch.no_grad():
                subject.model.classifier.bias.fill_(torch.nan)
        return record

    monkeypatch.setattr(Trainer, "_train_step", ruinous)
    failed = train(tiny_store, short_recipe, tmp_path)
    assert last_line(failed).startswith("error: weights are not numbers after step 6 (the first is classifier.bias)")
    assert load_checkpoint(tmp_path)["progress"] == {"epoch": 1, "batch": 0, "step": 3}
    monkeypatch.undo()
    assert train(tiny_store, short_recipe, tmp_path).status == 0
    assert is_same(weights_of(tmp_path), weights_of(undisturbed))


# What cannot be begun


def noise_store(folder: Path, ids: Sequence[str], splits: Mapping[str, Mapping[str, Sequence[str]]]) -> Path:
    settings = StoreSettings(32, 32, gop_size=4)
    gop = random_gop(settings, np.random.default_rng(0))
    return write_store(folder, settings, {video_id: [gop] for video_id in ids}, splits)


def test_a_student_needs_a_teacher(tiny_store: Path, student_recipe: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, student_recipe, tmp_path / "run"))
    assert "distill weights above 0: expected --teacher RUN" in line
    assert not (tmp_path / "run").exists()


def test_a_teacher_needs_none(tiny_store: Path, teacher_recipe: Path, teacher_run: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", "--teacher", teacher_run))
    assert "--teacher given, but distill.hint_weight and distill.soft_weight are 0" in line


def test_a_store_without_labels_cannot_be_trained_on(teacher_recipe: Path, tmp_path: Path) -> None:
    store = noise_store(tmp_path / "store", ["a", "b"], {})
    assert "has no labelled videos: expected a folder a class" in error_line(
        train(store, teacher_recipe, tmp_path / "run")
    )
    assert not (tmp_path / "run").exists()


def test_an_unknown_split_is_named(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", "--set", "data.split=split9"))
    assert line == "split 'split9': expected one of only"


def test_a_teacher_of_other_classes_is_refused(student_recipe: Path, teacher_run: Path, tmp_path: Path) -> None:
    store = noise_store(tmp_path / "store", ["a/1", "b/1", "b/2"], {"s": {"train": ["a/1", "b/1"], "test": ["b/2"]}})
    failed = train(store, student_recipe, tmp_path / "run", "--teacher", teacher_run, "--init", "none")
    assert "classes" in last_line(failed)
    assert str(teacher_run) in last_line(failed)


def test_a_student_is_no_teacher(tiny_store: Path, student_recipe: Path, student_run: Path, tmp_path: Path) -> None:
    failed = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", student_run)
    assert "was trained on augmented clips, expected rgb" in last_line(failed)


def test_a_wrong_start_leaves_the_folder_free(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    failed = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", tmp_path / "nowhere")
    assert "expected" in error_line(failed)
    failed = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", teacher_run, "--init", tmp_path)
    assert f"{tmp_path}: no checkpoint.pt; expected a run of mfcd-train" in error_line(failed)
    mended = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", teacher_run, "--set", "optim.epochs=1")
    assert mended.status == 0


def test_weights_of_another_network_are_refused(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    failed = train(tiny_store, student_recipe, tmp_path, "--teacher", teacher_run, "--set", "model.depth=[1,1,1,2]")
    assert "do not fit" in error_line(failed)
    assert "conv5.B02" in error_line(failed)


def test_a_store_of_a_later_version_is_refused(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    index = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps({**index, "format_version": 2}))
    line = error_line(train(store, teacher_recipe, tmp_path / "run"))
    assert "format version 2, this reader knows 1; update mfcd" in line


def test_another_run_in_the_folder_is_refused(tiny_store: Path, teacher_recipe: Path, teacher_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in teacher_run.iterdir()}
    line = error_line(train(tiny_store, teacher_recipe, teacher_run, "--seed", 1, "--set", "data.flip=0.25"))
    assert "holds a run with another seed, data.flip; choose another --out" in line
    assert {path.name: path.read_bytes() for path in teacher_run.iterdir()} == before


def test_a_missing_store_or_recipe_is_named(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in error_line(train(tmp_path / "nowhere", teacher_recipe, tmp_path / "run"))
    line = error_line(train(tiny_store, tmp_path / "nowhere.toml", tmp_path / "run"))
    assert "expected a TOML file or one of" in line


@pytest.mark.parametrize(
    "device", ["tpu", pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"))]
)
def test_a_device_that_is_not_there_is_refused(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, device: str
) -> None:
    outcome = run_command(main, tiny_store, "--recipe", teacher_recipe, "--out", tmp_path / "run", "--device", device)
    assert f"--device {device}: expected one of auto, cpu, cuda" in error_line(outcome)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_a_usage_error(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, seed: int
) -> None:
    outcome = train(tiny_store, teacher_recipe, tmp_path / "run", "--seed", seed)
    assert outcome.status == 2
    assert "--seed" in outcome.err
    assert "Traceback" not in outcome.err


def test_damage_in_the_store_stops_the_run_and_names_it(teacher_recipe: Path, tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path)
    shard = store / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    failed = train(store, teacher_recipe, tmp_path / "run", "--set", "optim.epochs=20")
    assert "shard-00001.h5: GOP " in last_line(failed)
    assert "run mfcd-prep verify" in last_line(failed)
