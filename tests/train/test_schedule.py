"""Learning rates by epoch."""

from __future__ import annotations

from typing import Any

import pytest

from mfcd_train.config import OptimRecipe
from mfcd_train.recipe_files import load_recipe
from mfcd_train.schedule import SCHEDULES, Validation, best_epoch, num_plateaus


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


def test_every_plateau_multiplies_by_gamma() -> None:
    optim = OptimRecipe(learning_rate=0.8, epochs=10, schedule="plateau", gamma=0.5, milestones=(1,))
    assert [optim.rate_at(5, number) for number in range(4)] == pytest.approx([0.8, 0.4, 0.2, 0.1])
    other = OptimRecipe(learning_rate=0.8, epochs=10, schedule="constant", gamma=0.5)
    assert other.rate_at(5, 3) == 0.8


def validations(*top1: float, every: int = 1) -> list[Validation]:
    return [Validation(value, 0.0, -every * (number + 1)) for number, value in enumerate(top1)]


def test_the_best_epoch_has_most_right_answers_then_least_cross_entropy_then_comes_first() -> None:
    assert best_epoch([]) == 0
    assert best_epoch(validations(0.1, 0.3, 0.2)) == 2
    assert best_epoch(validations(0.3, 0.3, 0.3)) == 1
    assert best_epoch([Validation(0.5, -1.0, -1), Validation(0.5, -0.9, -2), Validation(0.4, -0.1, -3)]) == 2


@pytest.mark.parametrize(
    ("top1", "every", "expected"),
    [
        ((), 1, 0),
        ((0.1, 0.2, 0.3, 0.4), 1, 0),
        ((0.4, 0.1, 0.1), 1, 1),
        ((0.4, 0.1, 0.5, 0.1), 1, 0),
        ((0.4, 0.1, 0.1, 0.2, 0.3), 1, 2),
        ((0.4, 0.4, 0.4, 0.4), 1, 1),
        ((0.4, 0.3), 5, 1),
    ],
)
def test_a_plateau_is_two_epochs_without_a_better_validation(
    top1: tuple[float, ...], every: int, expected: int
) -> None:
    assert num_plateaus(validations(*top1, every=every), 2) == expected


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
