"""Many processes that train together: gradients, learnt weights, records and what is refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from training import damage_only_gop, error_line, measured, train

from mfcd_core.errors import UsageError
from mfcd_train.checkpoint import CHECKPOINT, load_checkpoint
from mfcd_train.runlog import METRICS, VALIDATION_TOP1
from mfcd_train.sharing import check_shares, part_rows

if TYPE_CHECKING:
    from torch import Tensor

ONE_STEP = ("data.batch_size=6", "optim.weight_decay=0.0", "optim.epochs=1", "data.flip=0.5")
"""All six training videos in one step; without decay the momentum after it is its gradient."""


def words(settings: tuple[str, ...]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def started(processes: int, store: Path, recipe: Path, out: Path, *arguments: object) -> subprocess.Popen[str]:
    """Training in processes that torchrun starts on this machine."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*program, "--no-python", Path(sys.executable).with_name("mfcd-train"), store, "--recipe", recipe]
    command += ["--out", out, "--device", "cpu", *arguments]
    return subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)


def gradients(run: Path) -> list[Tensor]:
    state = load_checkpoint(run)["optimizer"]["state"]
    return [state[number]["momentum_buffer"] for number in sorted(state)]


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    """Greatest difference of two lists of gradients, relative to the greatest gradient of each tensor."""
    assert [gradient.shape for gradient in one] == [gradient.shape for gradient in other]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_that_adds_up_the_same_halves(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    with started(2, tiny_store, teacher_recipe, tmp_path / "together", *words(ONE_STEP)) as process:
        said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    alone = words((*ONE_STEP, "optim.accumulate=2"))
    assert train(tiny_store, teacher_recipe, tmp_path / "alone", *alone).status == 0
    assert train(tiny_store, teacher_recipe, tmp_path / "whole", *words(ONE_STEP)).status == 0
    expected = gradients(tmp_path / "alone")
    assert distance(gradients(tmp_path / "together"), expected) < 1e-5
    assert distance(gradients(tmp_path / "whole"), expected) > 1e-2  # batch statistics of the whole are others
    assert said.count("starting from random weights") == 1
    assert "Warning" not in said
    _, end = measured(tmp_path / "together")
    assert (end["epoch"], end["step"]) == (1, 1)


@pytest.mark.slow
def test_a_student_that_two_processes_began_is_ended_by_one_after_sigterm(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    settings = ("optim.epochs=20", "optim.ema_decay=0.9", "optim.clip_norm=1.0", "data.batch_size=4")
    arguments = (*words(settings), "--teacher", teacher_run)
    with started(2, tiny_store, student_recipe, tmp_path, *arguments) as process:
        while process.poll() is None and not (tmp_path / METRICS).exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=200)[1]
    assert f"stopped by SIGTERM with everything saved: {tmp_path / CHECKPOINT}" in said
    assert load_checkpoint(tmp_path)["progress"]["epoch"] < 20
    resumed = train(tiny_store, student_recipe, tmp_path, *arguments)
    assert resumed.status == 0, resumed.err
    assert f"resuming {tmp_path} at epoch" in resumed.err
    ends = [record["epoch"] for record in measured(tmp_path) if VALIDATION_TOP1 in record]
    assert ends == list(range(1, 21))


@pytest.mark.slow
def test_gops_that_one_of_two_processes_skips_are_counted_for_both(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    """Every epoch draws the only GOP of `down/1`, which is damaged; its other process has nothing to skip."""
    folder = shutil.copytree(tiny_store, tmp_path / "store")
    damage_only_gop(folder, "down/1")
    settings = ("data.batch_size=6", "optim.epochs=10", "run.on_bad_gop=skip")  # a step an epoch
    with started(2, folder, teacher_recipe, tmp_path / "run", *words(settings)) as process:
        said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert said.count("warning: skipped a GOP") == 10
    assert said.count("warning: epoch 10: 1 GOPs could not be read and were left out") == 1
    assert [record.get("skipped_gops") for record in measured(tmp_path / "run")] == 20 * [1]  # epochs, and steps


@pytest.mark.parametrize(("num_parts", "peers"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_processes_and_parts_share_every_batch(num_parts: int, peers: int) -> None:
    taken = [part_rows(40, 12, num_parts, rank, peers) for rank in range(peers)]
    assert {rows.shape for rows in taken} == {(3, num_parts, 12 // peers // num_parts)}
    for step in range(3):
        assert sorted(np.concatenate([rows[step].ravel() for rows in taken])) == list(range(12 * step, 12 * step + 12))
    for rank, rows in enumerate(taken):
        assert all(rows.ravel() % peers == rank)


def test_a_part_of_a_process_is_a_part_of_one_that_is_alone() -> None:
    alone = part_rows(24, 12, 6, 0, 1)
    for rank in range(3):
        assert np.array_equal(part_rows(24, 12, 2, rank, 3), alone[:, rank::3])


def test_the_only_batch_may_be_incomplete() -> None:
    assert part_rows(7, 12, 1, 0, 1).tolist() == [[[0, 1, 2, 3, 4, 5, 6]]]
    assert part_rows(7, 12, 1, 1, 2).tolist() == [[[1, 3, 5]]]  # the same number for each process


@pytest.mark.parametrize(("num_draws", "batch_size", "peers"), [(32, 32, 3), (2, 6, 3)])
def test_what_cannot_be_shared_is_refused(num_draws: int, batch_size: int, peers: int) -> None:
    expected = "a multiple of 3, such as 33" if num_draws == 32 else "2 training videos .* expected 3 or more"
    with pytest.raises(UsageError, match=f"for 3 processes with optim.accumulate 1: expected {expected}|{expected}"):
        check_shares(num_draws, batch_size, 1, peers)


def test_parts_that_a_batch_does_not_have_are_refused(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", "--set", "optim.accumulate=4"))
    assert line.startswith("data.batch_size 2 for 1 processes with optim.accumulate 4: expected a multiple of 4")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("optim.sync_batchnorm=true", "on a CPU: torch has it for GPUs alone"),
        ("run.precision=16-mixed", "on a CPU: it needs a GPU"),
    ],
)
def test_what_needs_a_gpu_is_refused_on_a_cpu(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, setting: str, reason: str
) -> None:
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", "--set", setting))
    assert reason in line
    assert not (tmp_path / "run").exists()
