"""What a student is trained on: hints (Eq. 5), soft logits (Eq. 6), cross entropy (Eq. 7), their sum (Eq. 8).

Computed in float32 at least, whatever precision the networks ran in. No gradient reaches the teacher.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn import functional as F  # noqa: N812 - the name that every PyTorch reader knows

from mfcd_core.errors import MfcdError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

Policy = TypeVar("Policy")


class DivergedError(MfcdError):
    """The loss, its gradients or the weights are no longer numbers."""


def hint_losses(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], layers: Sequence[str], reduction: str = "mean"
) -> dict[str, Tensor]:
    """Squared distance between the feature maps of both networks by layer (Eq. 5).

    Args:
        student: raw map (N, C, T, H, W) by layer.
        teacher: the same layers with the same shapes.
        layers: those to compare, at least one.
        reduction: a key of `HINT_REDUCTIONS`: `mean` over all elements of a layer, or `sum` over the elements
            of a sample and mean over the batch, as printed.

    Raises:
        UsageError: layers or shapes differ, or the reduction is unknown.
    """
    mine, yours = ({name: maps[name] for name in layers if name in maps} for maps in (student, teacher))
    _check_same_maps(mine, yours)
    reduce = _choose(HINT_REDUCTIONS, reduction, "reduction")
    return {name: reduce(_full(mine[name]), _full(yours[name].detach())) for name in layers}


def soft_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, direction: str = "student-teacher"
) -> Tensor:
    """Divergence between the softened predictions softmax(logits / temperature), mean over the batch (Eq. 6).

    Args:
        student_logits: (N, num_classes).
        teacher_logits: (N, num_classes).
        temperature: above 0; higher is softer.
        direction: a key of `SOFT_DIRECTIONS`: `student-teacher` is KL(student || teacher), as printed;
            `teacher-student` is Hinton's KL(teacher || student) times temperature squared.

    Raises:
        UsageError: shapes differ, the temperature is not positive, or the direction is unknown.
    """
    _check_same_maps({"logits": student_logits}, {"logits": teacher_logits})
    if not 0 < temperature < math.inf:
        raise UsageError(f"temperature {temperature}: expected a number above 0, such as 4")
    divergence = _choose(SOFT_DIRECTIONS, direction, "direction")
    student = F.log_softmax(_full(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(_full(teacher_logits.detach()) / temperature, dim=1)
    return divergence(student, teacher, temperature)


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of logits (N, num_classes) and integer labels (N,), mean over the batch (Eq. 7).

    label_smoothing: share of each label that is spread evenly over all classes.
    """
    return F.cross_entropy(_full(logits), labels, label_smoothing=label_smoothing)


def total_loss(
    ce: Tensor, hints: Mapping[str, Tensor], soft: Tensor, hint_weight: float, soft_weight: float
) -> dict[str, Tensor]:
    """Return ce + hint_weight * (sum of hints) + soft_weight * soft as `loss/total`, and what it is made of (Eq. 8).

    The total carries the gradient. The rest is for the log, detached: terms `loss/ce`, `loss/hint` (and by layer,
    `loss/hint/conv5`) and `loss/soft`, unweighted, and the weights `weight/hint` and `weight/soft`.
    """
    hint = torch.stack(list(hints.values())).sum()
    terms = {"loss/ce": ce, "loss/hint": hint, **{f"loss/hint/{n}": h for n, h in hints.items()}, "loss/soft": soft}
    weights = {"weight/hint": hint_weight, "weight/soft": soft_weight}
    return {
        **{name: term.detach() for name, term in terms.items()},
        **{name: ce.detach().new_tensor(weight) for name, weight in weights.items()},
        "loss/total": ce + hint_weight * hint + soft_weight * soft,
    }


def _mean_of_squares(student: Tensor, teacher: Tensor) -> Tensor:
    return F.mse_loss(student, teacher)


def _sum_of_squares_a_sample(student: Tensor, teacher: Tensor) -> Tensor:
    return F.mse_loss(student, teacher, reduction="sum") / len(student)


HINT_REDUCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean_of_squares,
    "sum": _sum_of_squares_a_sample,
}
"""How Eq. 5 reduces one layer (student map, teacher map) to a number."""


def _student_to_teacher(student: Tensor, teacher: Tensor, _temperature: float) -> Tensor:
    return _divergence(student, teacher)


def _teacher_to_student(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * _divergence(teacher, student)


SOFT_DIRECTIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "student-teacher": _student_to_teacher,
    "teacher-student": _teacher_to_student,
}
"""How Eq. 6 compares log-probabilities (student, teacher) at a temperature."""


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities (N, num_classes), mean over the batch."""
    return (p.exp() * (p - q)).sum(dim=1).mean()


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _choose(policies: Mapping[str, Policy], key: str, name: str) -> Policy:
    if key not in policies:
        raise UsageError(f"{name} {key!r} is unknown; choose one of {', '.join(policies)}")
    return policies[key]


def _check_same_maps(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
    shapes, expected = ({name: tuple(x.shape) for name, x in maps.items()} for maps in (student, teacher))
    if shapes != expected:
        raise UsageError(f"student gives {shapes}, teacher {expected}: both need the same network, frames and crop")
