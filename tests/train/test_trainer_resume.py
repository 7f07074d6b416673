"""Training resumes bit for bit, and stops where the loss is no number."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_runs import STEPS_AN_EPOCH, TEACHER, run_command, write_recipe

from mfcd_core.store import Store
from mfcd_train import trainer
from mfcd_train.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from mfcd_train.train import main
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from mfcd_train.checkpoint import Progress
from training import assert_same_run, interrupt_at_step, is_same, last_line, train, weights_of


@pytest.fixture
def every_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_STEPS", 1)


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


@pytest.mark.slow
@pytest.mark.usefixtures("every_step_logged")
@pytest.mark.parametrize("save", [2, 3, 4, 5])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_any_checkpoint_neither_loses_nor_repeats_anything(
    tiny_store: Path, short_recipe: Path, undisturbed: Path, tmp_path: Path, save: int, when: str
) -> None:
    """With a checkpoint after every step, the fourth save is the end of the first epoch."""
    num_saves = 0

    def killed(*arguments: Any, **more: Any) -> None:  # noqa: ANN401
        nonlocal num_saves
        num_saves += 1
        if when == "after" or num_saves < save:
            save_checkpoint(*arguments, **more)
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


def test_a_loss_that_is_no_number_stops_the_run(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    failed = train(tiny_store, teacher_recipe, tmp_path, "--set", "optim.learning_rate=1e30")
    found = re.match(r"error: loss is not a number at step 1 \(fed: (.*)\): lower optim", last_line(failed))
    assert found is not None
    fed = [gop.rpartition(":") for gop in found[1].split(", ")]
    store = Store(tiny_store)
    assert len(fed) == 2
    assert all(0 <= int(gop) < store.videos.num_gops[store.videos.row_of(video)] for video, _, gop in fed)
    assert last_line(failed).endswith("the last good state is the start: no checkpoint was written yet")
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
    found = re.match(
        r"error: weights are not numbers after step 6 \(the first is classifier.bias\) \(fed: (.*)\): lower",
        last_line(failed),
    )
    assert found is not None
    assert len(found[1].split(", ")) == 2  # the clips of a batch
    assert last_line(failed).endswith("checkpoint.pt, step 3")
    assert load_checkpoint(tmp_path)["progress"] == {"epoch": 1, "batch": 0, "step": 3}
    monkeypatch.undo()
    assert train(tiny_store, short_recipe, tmp_path).status == 0
    assert is_same(weights_of(tmp_path), weights_of(undisturbed))
