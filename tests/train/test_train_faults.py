"""What befalls a run from outside: killed, asked to end, a full disk, a disk that lies."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from killing import train_quietly
from tiny_runs import STEPS_AN_EPOCH, TEACHER, write_recipe
from training import assert_same_run, last_line, train

from mfcd_core.errors import OutputError
from mfcd_train import trainer
from mfcd_train.checkpoint import BEST, CHECKPOINT, Progress, load_checkpoint, save_checkpoint
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUM_KILLS = 30
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture
def many_saves(tmp_path: Path) -> Path:
    """A recipe with a checkpoint after every step, one thread that reads, and more steps than kills."""
    recipe = {**TEACHER, "run": {**TEACHER["run"], "checkpoint_seconds": 0.0, "loader_threads": 1, "keep_last": 2}}
    recipe["optim"] = {**TEACHER["optim"], "epochs": 40, "ema_decay": 0.9}
    return write_recipe(tmp_path / "many.toml", recipe)


@pytest.fixture(scope="module")
def begin() -> Iterator[Callable[..., Any]]:
    """Start training in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mfcd_train.train"])

    def start(*arguments: object) -> Any:  # noqa: ANN401 - a process of that context
        process = context.Process(target=train_quietly, args=tuple(map(str, arguments)))
        process.start()
        return process

    yield start
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


def written(run: Path) -> int:
    path = run / CHECKPOINT
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for_another_checkpoint(run: Path, process: Any) -> None:  # noqa: ANN401
    before = written(run)
    while written(run) == before:
        assert process.is_alive(), "it ended before it could be disturbed"
        time.sleep(0.002)


@pytest.mark.slow
def test_thirty_kills_cost_nothing_that_was_recorded(
    tiny_store: Path, many_saves: Path, tmp_path: Path, begin: Callable[..., Any]
) -> None:
    rng = random.Random(0)  # noqa: S311 - no secret
    arguments = (tiny_store, "--recipe", many_saves, "--device", "cpu", "--out")
    undisturbed = begin(*arguments, tmp_path / "undisturbed")
    undisturbed.join()
    assert undisturbed.exitcode == 0
    reached: list[tuple[int, int, int]] = []
    for _ in range(NUM_KILLS):
        process = begin(*arguments, tmp_path / "killed")
        for _ in range(rng.randrange(1, 4)):
            wait_for_another_checkpoint(tmp_path / "killed", process)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        progress = load_checkpoint(tmp_path / "killed")["progress"]
        reached.append((progress["epoch"], progress["batch"], progress["step"]))
    assert reached == sorted(set(reached))
    assert reached[-1] < (40, 0, 40 * STEPS_AN_EPOCH)
    last = begin(*arguments, tmp_path / "killed")
    last.join()
    assert last.exitcode == 0
    assert_same_run(tmp_path / "killed", tmp_path / "undisturbed")
    kept = ["epoch-0039.pt", "epoch-0040.pt"]
    for name in (BEST, *kept):
        mine, yours = (load_checkpoint(tmp_path / run, name) for run in ("killed", "undisturbed"))
        assert mine["progress"] == yours["progress"]
    assert [path.name for path in sorted((tmp_path / "killed").glob("epoch-*"))] == kept


@pytest.mark.slow
def test_sigterm_saves_and_has_a_status_of_its_own(
    tiny_store: Path, many_saves: Path, tmp_path: Path, begin: Callable[..., Any]
) -> None:
    rarely = ("--set", "optim.epochs=8", "--set", "run.checkpoint_seconds=1000")
    arguments = (tiny_store, "--recipe", many_saves, "--device", "cpu", *rarely, "--out", tmp_path / "run")
    process = begin(*arguments)
    wait_for_another_checkpoint(tmp_path / "run", process)
    process.terminate()
    process.join()
    assert process.exitcode == 75
    said = train(tiny_store, many_saves, tmp_path / "run", *rarely)
    assert said.status == 0
    assert train(tiny_store, many_saves, tmp_path / "undisturbed", *rarely).status == 0
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.parametrize("when", ["step", "validation", "before"])
def test_a_wish_to_end_is_granted_at_once(
    tiny_store: Path, teacher_recipe: Path, teacher_run: Path, tmp_path: Path, when: str
) -> None:
    """In the middle of an epoch, while it is validated, and before the first step."""
    ask, name = {"step": (1, "_train_step"), "validation": (1, "_validate"), "before": (0, "_validate")}[when]
    whole, calls = getattr(Trainer, name), []

    def asked(subject: Trainer, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        calls.append(name)
        if len(calls) == ask + 1:
            signal.raise_signal(signal.SIGTERM)
        return whole(subject, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, name, asked)
        stopped = train(tiny_store, teacher_recipe, tmp_path)
    assert stopped.status == 75
    step = {"step": 2, "validation": STEPS_AN_EPOCH, "before": 0}[when]
    assert f"stopped by SIGTERM with everything saved: {tmp_path / CHECKPOINT}, step {step}; the same" in stopped.err
    assert load_checkpoint(tmp_path)["progress"] == {"epoch": 0, "batch": step, "step": step}
    assert train(tiny_store, teacher_recipe, tmp_path).status == 0
    assert_same_run(tmp_path, teacher_run)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    if subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounts in a name space of one's own are not permitted here")
    often = ("--set", "run.checkpoint_seconds=0")
    assert train(tiny_store, teacher_recipe, tmp_path / "undisturbed", *often).status == 0
    room_kb = int(2.6 * (tmp_path / "undisturbed" / CHECKPOINT).stat().st_size / 1024)
    program = Path(sys.executable).with_name("mfcd-train")
    command = f"{program} {tiny_store} --recipe {teacher_recipe} --device cpu --out disk/run {' '.join(often)}"
    (tmp_path / "disk").mkdir()
    script = f"""
        cd {tmp_path} && mount -t tmpfs -o size={room_kb}k none disk
        {command}; echo status $?
        cp disk/run/checkpoint.pt full.pt; ls -A disk/run
        mount -o remount,size=100m disk
        {command}; echo status $?
        cp -r disk/run kept"""
    done = subprocess.run([*OWN_MOUNTS, "sh", "-c", script], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if line.startswith("status")] == ["status 2", "status 0"], said
    (error,) = (line for line in said if line.startswith("error:"))
    assert "cannot be written (No space left on device): free some space" in error
    assert "it goes on from disk/run/checkpoint.pt, step " in error
    assert not any("Traceback" in line or line.endswith(".part") for line in said)
    assert load_checkpoint(tmp_path, "full.pt")["progress"]["step"] == int(error.rpartition(" ")[2])
    assert_same_run(tmp_path / "kept", tmp_path / "undisturbed")


def test_a_checkpoint_that_reads_back_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, {}, {}, Progress(step=1))
    read = Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: read(path)[:-1] + b"?")
        with pytest.raises(OutputError, match="reads back otherwise than it was written"):
            save_checkpoint(tmp_path, {}, {}, Progress(step=2))
    assert load_checkpoint(tmp_path)["progress"]["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_run_that_cannot_write_its_records_says_where_it_goes_on(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_STEPS", 4)
    record = Trainer._record

    def unwritable(subject: Trainer, values: dict[str, float]) -> None:
        if values["step"] == 4:
            (tmp_path / "metrics.jsonl").unlink()
            (tmp_path / "metrics.jsonl").mkdir()
        record(subject, values)

    monkeypatch.setattr(Trainer, "_record", unwritable)
    line = last_line(train(tiny_store, teacher_recipe, tmp_path))
    assert "metrics.jsonl cannot be written (Is a directory)" in line
    assert line.endswith(f"goes on from {tmp_path / CHECKPOINT}, step 3")
