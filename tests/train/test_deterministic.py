"""The same numbers from the same command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from training import measured, train, weights_of

from mfcd_train import trainer
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mfcd_train.loader import Batch


@pytest.fixture
def clean_switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave torch and the environment as they were."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"))
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.usefixtures("clean_switches")
def test_deterministic_gives_identical_metrics_and_weights_twice(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_STEPS", 1)
    settings = ("--teacher", teacher_run, "--deterministic", "--set", "optim.epochs=2")
    for name in ("one", "other"):
        assert train(tiny_store, student_recipe, tmp_path / name, *settings).status == 0
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    one, other = (measured(tmp_path / name) for name in ("one", "other"))
    assert one == other
    assert len(one) == 8
    weights, expected = (weights_of(tmp_path / name) for name in ("one", "other"))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_seeds_alone_fix_the_order_of_data(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the network, the optimizer and the number of threads that read."""
    seen: list[tuple[list[int], list[float], list[bool]]] = []
    losses = Trainer._losses

    def watched(subject: Trainer, batch: Batch) -> object:
        draws = batch.draws
        seen.append((draws.gop.tolist(), draws.left.tolist(), draws.flip.tolist()))
        return losses(subject, batch)

    monkeypatch.setattr(Trainer, "_losses", watched)

    def order(name: str, *settings: str, seed: int = 3) -> list[object]:
        seen.clear()
        arguments = [word for setting in ("optim.epochs=2", *settings) for word in ("--set", setting)]
        assert train(tiny_store, teacher_recipe, tmp_path / name, *arguments, "--seed", seed).status == 0
        return list(seen)

    first = order("first")
    assert len(first) == 6
    assert order("second", "model.width=0.5", "run.loader_threads=3", "optim.optimizer=adamw") == first
    assert order("third", seed=4) != first
