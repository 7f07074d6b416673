"""Losses against arithmetic in NumPy, written from the paper's equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mfcd_core.errors import UsageError
from mfcd_train.losses import (
    HINT_REDUCTIONS,
    SOFT_DIRECTIONS,
    cross_entropy,
    hint_losses,
    soft_loss,
    total_loss,
)

SHAPES = {"maxpool": (3, 4, 2, 5, 5), "conv2": (3, 6, 1, 5, 5), "conv5": (3, 8, 1, 1, 1)}


def maps(seed: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {name: torch.from_numpy(rng.normal(size=shape)).requires_grad_() for name, shape in SHAPES.items()}


def logits(seed: int, scale: float = 2.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=(4, 7))).requires_grad_()


def numpy_softmax(x: torch.Tensor, temperature: float) -> np.ndarray:
    powers = np.exp(x.detach().numpy() / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def numpy_divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.mean([np.sum(a * np.log(a / b)) for a, b in zip(p, q, strict=True)]))


# Hints, Eq. 5


def numpy_hint_loss(reduction: str, student: dict[str, torch.Tensor], teacher: dict[str, torch.Tensor]) -> float:
    total = 0.0
    for name in SHAPES:
        squares = (student[name].detach().numpy() - teacher[name].detach().numpy()) ** 2
        per_sample = [sample.mean() if reduction == "mean" else sample.sum() for sample in squares]
        total += sum(per_sample) / len(per_sample)
    return float(total)


def hint_sum(student: dict[str, torch.Tensor], teacher: dict[str, torch.Tensor], reduction: str) -> torch.Tensor:
    return torch.stack(list(hint_losses(student, teacher, list(student), reduction).values())).sum()


@pytest.mark.parametrize("reduction", HINT_REDUCTIONS)
def test_hint_losses_are_the_squared_distances_of_layers(reduction: str) -> None:
    student, teacher = maps(0), maps(1)
    expected = numpy_hint_loss(reduction, student, teacher)
    assert hint_sum(student, teacher, reduction).item() == pytest.approx(expected, rel=1e-12)


def test_hint_losses_do_not_depend_on_the_order_of_layers() -> None:
    student, teacher = maps(0), maps(1)
    swapped = dict(reversed(teacher.items()))
    assert hint_losses(student, swapped, list(SHAPES)) == hint_losses(student, teacher, list(SHAPES))


@pytest.mark.parametrize("layers", [["conv5"], ["maxpool", "conv2"]])
def test_only_the_layers_that_are_asked_for_are_compared(layers: list[str]) -> None:
    student, teacher = maps(0), maps(1)
    losses, every = (hint_losses(student, teacher, names) for names in (layers, list(SHAPES)))
    assert losses == {name: every[name] for name in layers}
    sum(losses.values()).backward()
    assert [name for name in SHAPES if student[name].grad is not None] == [n for n in SHAPES if n in layers]


def test_hint_sum_is_mean_times_elements_of_a_sample() -> None:
    student, teacher = maps(0), maps(1)
    by_sum, by_mean = (hint_losses(student, teacher, ["conv2"], reduction)["conv2"] for reduction in ("sum", "mean"))
    assert (by_sum / by_mean).item() == pytest.approx(math.prod(SHAPES["conv2"][1:]))


@pytest.mark.parametrize("reduction", HINT_REDUCTIONS)
def test_hint_gradient_pulls_the_student_and_never_reaches_the_teacher(reduction: str) -> None:
    student, teacher = maps(0), maps(1)
    hint_sum(student, teacher, reduction).backward()
    for name, shape in SHAPES.items():
        count = shape[0] if reduction == "sum" else math.prod(shape)
        expected = 2 * (student[name] - teacher[name]).detach() / count
        torch.testing.assert_close(student[name].grad, expected)
        assert teacher[name].grad is None


@pytest.mark.parametrize("reduction", HINT_REDUCTIONS)
def test_equal_maps_have_no_hint_loss(reduction: str) -> None:
    assert hint_sum(maps(0), maps(0), reduction).item() == 0


def test_hints_in_half_precision_are_compared_in_float32() -> None:
    student = {"conv2": torch.full((1, 8, 4, 32, 32), 300.0, dtype=torch.float16)}
    teacher = {"conv2": torch.zeros(1, 8, 4, 32, 32, dtype=torch.bfloat16)}
    loss = hint_sum(student, teacher, "sum")
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(8 * 4 * 32 * 32 * 300.0**2)


def test_hints_that_do_not_match_are_refused() -> None:
    narrow = maps(1) | {"conv5": torch.zeros(3, 1, 1, 1, 1)}
    with pytest.raises(UsageError, match="same network"):
        hint_losses(maps(0), narrow, list(SHAPES))
    with pytest.raises(UsageError, match="same network"):
        hint_losses(maps(0), {"conv2": maps(1)["conv2"]}, list(SHAPES))
    assert hint_losses(maps(0), narrow, ["conv2"])  # the layer that differs is not asked for


def test_unknown_reduction_names_the_choices() -> None:
    with pytest.raises(UsageError, match=r"reduction 'max' is unknown; choose one of mean, sum"):
        hint_losses(maps(0), maps(1), list(SHAPES), "max")


# Soft logits, Eq. 6


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_student_teacher_is_the_printed_divergence(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    expected = numpy_divergence(numpy_softmax(student, temperature), numpy_softmax(teacher, temperature))
    loss = soft_loss(student, teacher, temperature, "student-teacher")
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert soft_loss(student, teacher, temperature).item() == loss.item()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_teacher_student_is_hintons_divergence_times_temperature_squared(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    expected = numpy_divergence(numpy_softmax(teacher, temperature), numpy_softmax(student, temperature))
    loss = soft_loss(student, teacher, temperature, "teacher-student")
    assert loss.item() == pytest.approx(temperature**2 * expected, rel=1e-10)


def test_hintons_gradient_is_the_difference_of_predictions_times_temperature() -> None:
    student, teacher, temperature = logits(0), logits(1), 3.0
    soft_loss(student, teacher, temperature, "teacher-student").backward()
    difference = numpy_softmax(student, temperature) - numpy_softmax(teacher, temperature)
    np.testing.assert_allclose(student.grad, temperature * difference / len(difference), rtol=1e-9)


@pytest.mark.parametrize("direction", SOFT_DIRECTIONS)
def test_soft_gradient_reaches_the_student_alone(direction: str) -> None:
    student, teacher = logits(0), logits(1)
    soft_loss(student, teacher, 2.0, direction).backward()
    assert student.grad is not None
    assert student.grad.abs().max() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("direction", SOFT_DIRECTIONS)
def test_equal_logits_have_no_soft_loss_and_shifts_do_not_matter(direction: str) -> None:
    assert soft_loss(logits(0), logits(0), 4.0, direction).item() == 0
    assert soft_loss(logits(0), logits(0) + 5, 4.0, direction).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("direction", SOFT_DIRECTIONS)
def test_extreme_logits_in_half_precision_stay_finite(direction: str) -> None:
    student = torch.tensor([[2e4, -2e4, 0.0]], dtype=torch.float16, requires_grad=True)
    loss = soft_loss(student, student.detach().flip(1), 1.0, direction)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(UsageError, match="expected a number above 0"):
        soft_loss(logits(0), logits(1), temperature)


def test_logits_of_other_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="logits"):
        soft_loss(logits(0), logits(1)[:, :1], 1.0)


def test_unknown_direction_names_the_choices() -> None:
    with pytest.raises(UsageError, match=r"choose one of student-teacher, teacher-student"):
        soft_loss(logits(0), logits(1), 1.0, "both")


# Cross entropy and total, Eq. 7 and 8


def test_cross_entropy_is_the_mean_negative_log_probability_of_the_label() -> None:
    labels = torch.tensor([0, 6, 2, 2])
    expected = -np.log(numpy_softmax(logits(0), 1.0)[np.arange(4), labels.numpy()]).mean()
    assert cross_entropy(logits(0), labels).item() == pytest.approx(expected)
    assert cross_entropy(logits(0).bfloat16(), labels).dtype == torch.float32


def test_total_weighs_the_terms_and_logs_each_beside_its_weight() -> None:
    ce, maxpool, conv5, soft = terms = torch.tensor([1.5, 12.0, 8.0, 0.25], requires_grad=True)
    losses = total_loss(ce, {"maxpool": maxpool, "conv5": conv5}, soft, hint_weight=0.01, soft_weight=2.0)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {
            "loss/ce": 1.5,
            "loss/hint": 20.0,
            "loss/hint/maxpool": 12.0,
            "loss/hint/conv5": 8.0,
            "loss/soft": 0.25,
            "weight/hint": 0.01,
            "weight/soft": 2.0,
            "loss/total": 1.5 + 0.2 + 0.5,
        }
    )
    losses["loss/total"].backward()
    assert terms.grad is not None
    assert terms.grad.tolist() == pytest.approx([1.0, 0.01, 0.01, 2.0])
    assert [name for name, loss in losses.items() if loss.requires_grad] == ["loss/total"]
