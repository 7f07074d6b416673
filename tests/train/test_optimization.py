"""What the recipe's [optim] does to steps: parts, groups, clipping, smoothing, averages, plateaus and an early end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny_runs import run_command
from torch.nn import functional as F  # noqa: N812 - the name that every PyTorch reader knows
from training import assert_same_run, interrupt_at_step, is_same, measured, train, weights_of

from mfcd_train import build, trainer
from mfcd_train.checkpoint import BEST, UNAVERAGED, load_checkpoint
from mfcd_train.evaluate import main as evaluate
from mfcd_train.losses import cross_entropy
from mfcd_train.metrics import mean_cross_entropy
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor


@pytest.fixture
def every_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_STEPS", 1)


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def steps_of(run: Path, name: str) -> list[float]:
    return [record[name] for record in measured(run) if name in record]


@pytest.mark.usefixtures("every_step_logged")
def test_backbone_and_classifier_have_rates_of_their_own(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backbone at rate 0 stays as it began, but for batch statistics; the classifier learns."""
    started: dict[str, Tensor] = {}
    fit = Trainer.fit

    def watched(subject: Trainer, *arguments: Any) -> Any:  # noqa: ANN401
        started.update({name: weight.clone() for name, weight in subject.network.state_dict().items()})
        return fit(subject, *arguments)

    monkeypatch.setattr(Trainer, "fit", watched)
    settings = words("optim.backbone_factor=0", "optim.epochs=1", "optim.schedule=constant")
    assert train(tiny_store, teacher_recipe, tmp_path, *settings).status == 0
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learnt = {name: weight for name, weight in weights_of(tmp_path).items() if not name.endswith(statistics)}
    changed = {name for name, weight in learnt.items() if not torch.equal(weight, started[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    groups = load_checkpoint(tmp_path)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [0, 0.05]
    assert [len(group["params"]) for group in groups] == [len(learnt) - 2, 2]
    assert steps_of(tmp_path, "learning_rate") == [0.05] * 3


def one_step(store: Path, recipe: Path, run: Path, *settings: str) -> list[Tensor]:
    """The momentum after a single step: the gradient that it took."""
    fixed = ("optim.epochs=1", "data.batch_size=6", "optim.weight_decay=0.0")
    assert train(store, recipe, run, *words(*fixed, *settings)).status == 0
    state = load_checkpoint(run)["optimizer"]["state"]
    return [state[number]["momentum_buffer"] for number in sorted(state)]


def length(gradients: Sequence[Tensor]) -> float:
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


@pytest.mark.usefixtures("every_step_logged")
def test_a_gradient_is_cut_to_its_length_and_keeps_its_direction(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    whole = one_step(tiny_store, teacher_recipe, tmp_path / "whole")
    (logged,) = steps_of(tmp_path / "whole", "gradient_norm")
    assert logged == pytest.approx(length(whole), rel=1e-4)
    cut = one_step(tiny_store, teacher_recipe, tmp_path / "cut", f"optim.clip_norm={logged / 4}")
    assert length(cut) == pytest.approx(logged / 4, rel=1e-3)
    assert all(torch.allclose(4 * a, b, rtol=1e-3, atol=1e-6) for a, b in zip(cut, whole, strict=True))
    loose = one_step(tiny_store, teacher_recipe, tmp_path / "loose", f"optim.clip_norm={logged * 4}")
    assert all(torch.equal(a, b) for a, b in zip(loose, whole, strict=True))


def test_label_smoothing_spreads_a_share_over_all_classes() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 1])
    spread = torch.full((2, 3), 0.1 / 3)
    spread[[0, 1], labels] += 0.9
    expected = -(spread * F.log_softmax(logits, 1)).sum(1).mean()
    assert cross_entropy(logits, labels, 0.1) == pytest.approx(float(expected))
    assert cross_entropy(logits, labels) == pytest.approx(float(F.nll_loss(F.log_softmax(logits, 1), labels)))


@pytest.mark.usefixtures("every_step_logged")
def test_label_smoothing_reaches_the_loss(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    one_step(tiny_store, teacher_recipe, tmp_path / "plain")
    one_step(tiny_store, teacher_recipe, tmp_path / "smooth", "optim.label_smoothing=0.3")
    assert steps_of(tmp_path / "plain", "loss/ce") != steps_of(tmp_path / "smooth", "loss/ce")


def test_scores_and_logits_have_the_same_cross_entropy() -> None:
    logits, labels = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    scores = logits.softmax(1).numpy()
    assert mean_cross_entropy(scores, labels.numpy()) == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert np.isfinite(mean_cross_entropy(np.array([[0.0, 1.0]], np.float32), np.array([0])))


def test_the_average_of_weights_is_what_is_evaluated_and_said(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each step: average = 0.75 average + 0.25 weights, from the weights after the first step on."""
    seen: list[dict[str, Tensor]] = []
    step = Trainer._train_step

    def watched(subject: Trainer, *arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        record = step(subject, *arguments)
        seen.append({name: weight.clone() for name, weight in subject.network.state_dict().items()})
        return record

    monkeypatch.setattr(Trainer, "_train_step", watched)
    done = train(tiny_store, teacher_recipe, tmp_path, *words("optim.ema_decay=0.75", "optim.epochs=2"))
    assert "validation and checkpoints use the moving average of weights (ema_decay 0.75)" in done.err
    state = load_checkpoint(tmp_path)
    assert is_same(state[UNAVERAGED], seen[-1])
    for name, weight in state["model"].items():
        if weight.is_floating_point():
            average = seen[0][name].double()
            for later in seen[1:]:
                average = 0.75 * average + 0.25 * later[name].double()
            assert torch.allclose(weight.double(), average, rtol=1e-4, atol=1e-6), name
    assert not is_same(state["model"], seen[-1])


def test_evaluation_says_that_weights_are_an_average_and_takes_the_checkpoint_asked_for(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    settings = words("optim.ema_decay=0.75", "optim.epochs=2", "run.keep_last=2")
    assert train(tiny_store, teacher_recipe, tmp_path, *settings).status == 0
    loaded, load = [], build.load_weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "load_weights", lambda model, found, at: (loaded.append(found), load(model, found, at)))
        arguments = (evaluate, tmp_path, tiny_store, "--device", "cpu", "--clips", 1, "--checkpoint", "epoch-0001.pt")
        done = run_command(*arguments)
    assert done.status == 0, done.err
    assert "weights are the moving average over steps (optim.ema_decay 0.75)" in done.err
    assert is_same(loaded[0], load_checkpoint(tmp_path, "epoch-0001.pt")["model"])
    missing = run_command(evaluate, tmp_path, tiny_store, "--device", "cpu", "--checkpoint", "epoch-0009.pt")
    assert f"{tmp_path}: no epoch-0009.pt" in missing.err


def test_an_average_resumes_bit_for_bit(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    settings = words("optim.ema_decay=0.9", "optim.epochs=2", "optim.clip_norm=1.0", "optim.accumulate=2")
    assert train(tiny_store, teacher_recipe, tmp_path / "undisturbed", *settings).status == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(patch, 4)
        assert train(tiny_store, teacher_recipe, tmp_path / "broken", *settings).status == 130
    assert train(tiny_store, teacher_recipe, tmp_path / "broken", *settings).status == 0
    assert_same_run(tmp_path / "broken", tmp_path / "undisturbed")
    raw, expected = (load_checkpoint(tmp_path / run)[UNAVERAGED] for run in ("broken", "undisturbed"))
    assert is_same(raw, expected)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations come to a top-1 of 0.2, 0.5, then 0.3 for ever."""
    validate = Trainer._validate

    def pretended(subject: Trainer, rows: object, progress: Any, **options: Any) -> dict[str, float]:  # noqa: ANN401
        record = validate(subject, rows, progress, **options)
        return record | {"validation/clip/top1": {0: 0.2, 1: 0.5}.get(progress.epoch, 0.3)}

    monkeypatch.setattr(Trainer, "_validate", pretended)


@pytest.mark.usefixtures("told", "every_step_logged")
def test_training_ends_early_and_keeps_the_best_epoch(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    settings = words("optim.early_stop=3", "optim.epochs=20", "run.keep_last=1")
    done = train(tiny_store, teacher_recipe, tmp_path, *settings)
    assert done.status == 0
    assert "no better validation in 3 epochs (optim.early_stop): training has ended" in done.err
    assert load_checkpoint(tmp_path)["progress"] == {"epoch": 5, "batch": 0, "step": 15}
    assert load_checkpoint(tmp_path, BEST)["progress"]["epoch"] == 2
    assert [path.name for path in tmp_path.glob("epoch-*")] == ["epoch-0005.pt"]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert train(tiny_store, teacher_recipe, tmp_path, *settings).status == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("told", "every_step_logged")
def test_the_rate_falls_where_validation_gets_no_better(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    keys = ("optim.schedule=plateau", "optim.plateau_epochs=2", "optim.gamma=0.5", "optim.epochs=7")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(patch, 16)
        assert train(tiny_store, teacher_recipe, tmp_path, *words(*keys)).status == 130
    assert train(tiny_store, teacher_recipe, tmp_path, *words(*keys)).status == 0
    rates = steps_of(tmp_path, "learning_rate")
    assert rates == pytest.approx([0.05] * 12 + [0.025] * 6 + [0.0125] * 3)
