"""What is watched of a run: TensorBoard, Weights & Biases, the progress line, the page at its end."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from training import error_line, interrupt_at_step, measured, train

from mfcd_core.store import Store
from mfcd_train import trainer
from mfcd_train.pace import Pace, progress_note, timed
from mfcd_train.report import write_report
from mfcd_train.runlog import REPORT, open_run
from mfcd_train.trainer import Trainer
from mfcd_train.watchers import TENSORBOARD, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WITH_EVENTS = ("--set", "run.tensorboard=true")


@pytest.fixture
def every_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_STEPS", 1)


def events_of(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name, as TensorBoard itself reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(run / TENSORBOARD), purge_orphaned_data=True)
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


@pytest.mark.usefixtures("every_step_logged")
def test_tensorboard_sees_every_record_once_though_the_run_was_interrupted(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(patch, 5)  # two steps after the checkpoint of the first epoch
        assert train(tiny_store, teacher_recipe, tmp_path, *WITH_EVENTS).status == 130
    assert train(tiny_store, teacher_recipe, tmp_path, *WITH_EVENTS).status == 0
    events, records = events_of(tmp_path), measured(tmp_path)
    for name in ("loss/total", "loss/ce", "learning_rate", "clip/top1", "validation/clip/top1"):
        expected = [(record["step"], record[name]) for record in records if name in record]
        assert [step for step, _ in events[name]] == [step for step, _ in expected]
        assert [value for _, value in events[name]] == pytest.approx([value for _, value in expected])


def test_a_watcher_that_fails_costs_a_warning(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / TENSORBOARD).write_text("in the way")
    done = train(tiny_store, teacher_recipe, tmp_path, *WITH_EVENTS, "--set", "optim.epochs=1")
    assert done.status == 0
    assert done.err.count("warning: TensorBoard failed and is left out") == 1
    assert measured(tmp_path)


def test_a_failed_watcher_is_asked_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_record: Mapping[str, Any]) -> None:
        raise ValueError("no connection")

    watcher = Watcher("Somebody", fail, lambda: fail({}))
    for _ in range(3):
        watcher.try_show({"step": 1})
    watcher.try_close()
    assert capsys.readouterr().err.count("Somebody failed and is left out from here on (no connection)") == 1


def test_wandb_that_is_not_installed_is_said_before_anything_begins(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", "--wandb"))
    assert line == "--wandb: Weights & Biases is not installed; pip install wandb, or leave --wandb out"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", [None, "online"])
def test_wandb_is_told_the_recipe_and_every_record_and_stays_offline_unless_told(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    asked: dict[str, Any] = {}
    logged: list[tuple[dict[str, float], int]] = []
    session = SimpleNamespace(
        log=lambda record, step: logged.append((record, step)), finish=lambda: asked.update(finished=True)
    )
    fake = SimpleNamespace(init=lambda **options: (asked.update(options), session)[1])
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    assert train(tiny_store, teacher_recipe, tmp_path, "--wandb", "--set", "optim.epochs=2").status == 0
    assert (asked["mode"], asked["resume"], asked["finished"]) == (mode or "offline", "allow", True)
    assert asked["config"]["optim"]["epochs"] == 2
    assert logged == [(record, record["step"]) for record in open_run(tmp_path).read_metrics()]


def test_the_progress_line_tells_losses_accuracy_speed_and_waiting(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    done = train(tiny_store, student_recipe, tmp_path, "--teacher", teacher_run, "--set", "optim.epochs=1")
    (line,) = (line for line in done.err.splitlines() if line.startswith("training 1/1 epochs"))
    number = r"\d+\.\d+"
    expected = (
        rf"s left loss {number} \(ce {number}, hint {number}, soft {number}\), top-1 \d+%, {number} clips/s, data"
    )
    assert re.search(expected, line), line


def test_pace_and_its_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 104.0)
    pace = Pace(start=100.0)
    pace.add(6, 0.5)
    pace.add(6, 0.5)
    rates = pace.rates()
    assert rates == {"clips_per_second": 3.0, "data_wait": 0.25}
    record = {"loss/ce": 1.25, "loss/total": 1.5, "loss/hint": 0.25, "loss/hint/conv2": 0.1, "clip/top1": 0.5}
    expected = "loss 1.500 (ce 1.250, hint 0.250), top-1 50%, 3.0 clips/s, data wait 25%"
    assert progress_note(record, rates) == expected


def test_waiting_is_what_the_next_item_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def slow() -> Iterator[str]:
        for name, seconds in (("a", 2.0), ("b", 3.0)):
            clock[0] += seconds
            yield name

    found = []
    for item, waited in timed(slow()):
        clock[0] += 100  # of using it
        found.append((item, waited))
    assert found == [("a", 2.0), ("b", 3.0)]


def test_validation_of_two_batches_comes_before_the_first_step(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int | None]] = []
    validate, step = Trainer._validate, Trainer._train_step

    def validated(subject: Trainer, *arguments: Any, num_batches: int | None = None) -> dict[str, float]:  # noqa: ANN401
        calls.append(("validate", num_batches))
        return validate(subject, *arguments, num_batches=num_batches)

    def stepped(subject: Trainer, *arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        calls.append(("step", None))
        return step(subject, *arguments)

    monkeypatch.setattr(Trainer, "_validate", validated)
    monkeypatch.setattr(Trainer, "_train_step", stepped)
    assert train(tiny_store, teacher_recipe, tmp_path, "--set", "optim.epochs=1").status == 0
    assert calls == [("validate", 2), *[("step", None)] * 3, ("validate", None)]
    assert [record["epoch"] for record in measured(tmp_path)] == [0, 1]  # the last step, and the whole validation


@pytest.mark.usefixtures("every_step_logged")
def test_a_page_at_the_end_shows_curves_recipe_and_what_was_fed(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    arguments = ("--teacher", teacher_run, "--set", "run.report=true")
    done = train(tiny_store, student_recipe, tmp_path, *arguments)
    assert f"report: {tmp_path / REPORT}" in done.err
    page = (tmp_path / REPORT).read_text(encoding="utf-8")
    for title in ("Total loss", "Cross entropy (Eq", "Hint loss", "Soft-logit", "Clip top-1, test", "Learning rate"):
        assert page.count(f"<strong>{title}") == 1
    assert "top-5" not in page  # of two classes
    assert "learning_rate = 0.05" in page
    assert page.count('alt="Augmented residual') == 6
    assert "<h2>Accuracy" not in page
    assert "http" not in page.replace("http-equiv", "").replace("xmlns", "")
    again = tmp_path / "again.html"
    write_report(Store(tiny_store), [open_run(tmp_path)], again, with_accuracy=False)
    assert again.read_text(encoding="utf-8") == page
