"""Learning rates by epoch."""

from __future__ import annotations

from typing import Any

import pytest

from mfcd_train.config import OptimRecipe
from mfcd_train.recipe_files import load_recipe
from mfcd_train.schedule import SCHEDULES


def rate(epoch: float, **keys: Any) -> float:  # noqa: ANN401
    return OptimRecipe(learning_rate=0.8, epochs=10, **keys).rate_at(epoch)


def test_step_falls_by_gamma_at_every_milestone() -> None:
    keys = {"schedule": "step", "milestones": (4, 8), "gamma": 0.5}
    rates = [rate(epoch, **keys) for epoch in (0, 3.99, 4, 7.5, 8, 10)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])
    assert rate(9, schedule="step", milestones=()) == pytest.approx(0.8)


def test_cosine_falls_from_the_rate_to_zero() -> None:
    rates = [rate(epoch, schedule="cosine") for epoch in (0, 2.5, 5, 7.5, 10, 11)]
    half = 0.5**0.5
    assert rates == pytest.approx([0.8, 0.4 * (1 + half), 0.4, 0.4 * (1 - half), 0, 0], abs=1e-12)


def test_constant_stays() -> None:
    assert {rate(epoch, schedule="constant") for epoch in (0, 5, 10)} == {0.8}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_from_almost_nothing(schedule: str) -> None:
    plain, warm = ([rate(e, schedule=schedule, warmup_epochs=w) for e in (0, 0.5, 1, 1.5, 2, 9)] for w in (0.0, 2.0))
    factors = [w / p for w, p in zip(warm, plain, strict=True)]
    assert factors == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1], abs=1e-3)
    assert warm[0] > 0  # a first step that does nothing would be a step lost


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_the_papers_recipes_end_lower_than_they_begin(name: str) -> None:
    optim = load_recipe(name).optim
    rates = [optim.rate_at(epoch) for epoch in range(optim.epochs)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]
