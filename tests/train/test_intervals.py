"""Intervals against printed tables, and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from mfcd_train.intervals import estimate, t_quantile

PRINTED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}
"""Student's t, 97.5 %, as in any textbook."""


@pytest.mark.parametrize("freedom", PRINTED)
def test_quantiles_are_those_of_printed_tables(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(PRINTED[freedom], abs=5e-4)


def test_an_interval_of_three_values_is_that_by_hand() -> None:
    found = estimate([0.90, 0.93, 0.96])
    assert (found.mean, found.num) == (pytest.approx(0.93), 3)
    assert found.half_width == pytest.approx(4.3027 * 0.03 / 3**0.5, rel=1e-4)


def test_one_value_has_no_interval() -> None:
    assert estimate([0.5]).half_width is None


@pytest.mark.parametrize("num", [2, 3, 5])
def test_19_of_20_intervals_hold_the_true_mean(num: int) -> None:
    samples = np.random.default_rng(num).normal(0.7, 0.1, (4000, num))
    found = [estimate(sample.tolist()) for sample in samples]
    held = [abs(one.mean - 0.7) <= (one.half_width or 0) for one in found]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)
