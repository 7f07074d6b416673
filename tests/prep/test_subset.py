"""A draw: as large as asked for, the same for the same seed, part of every larger one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_core.errors import UsageError
from mfcd_prep.subset import EVERYTHING, Subset


@pytest.mark.parametrize(
    ("size", "num_items", "expected"),
    [("5%", 100, 5), ("5%", 101, 6), ("5%", 1, 1), ("0.5%", 1000, 5), ("100%", 7, 7), ("3", 7, 3), ("9", 7, 7)],
)
def test_size_of_a_draw(size: str, num_items: int, expected: int) -> None:
    drawn = Subset(size).draw(num_items)
    assert len(drawn) == len(set(drawn)) == expected
    assert drawn == sorted(drawn)
    assert set(drawn) <= set(range(num_items))


def test_of_nothing_nothing_is_drawn() -> None:
    assert Subset("5%").draw(0) == []


def test_everything_is_everything() -> None:
    assert EVERYTHING.draw(1000) == list(range(1000))


@given(st.integers(0, 99), st.integers(1, 300), st.integers(1, 100), st.integers(1, 100))
def test_a_larger_draw_has_the_items_of_a_smaller_one(seed: int, num_items: int, one: int, other: int) -> None:
    small, large = (set(Subset(f"{share}%", seed).draw(num_items)) for share in sorted((one, other)))
    assert small <= large


def test_seeds_draw_differently_and_each_the_same_again() -> None:
    draws = [tuple(Subset("10", seed).draw(1000)) for seed in (0, 1, 0, 1)]
    assert draws[:2] == draws[2:]
    assert draws[0] != draws[1]


@pytest.mark.parametrize("size", ["", "0", "0%", "101%", "-5", "5 %", "five", "1.5", "%", "0.0%", "1e3", "²"])
def test_another_size_is_wrong_usage(size: str) -> None:
    with pytest.raises(UsageError, match="expected a percentage, as 5%, or a number of items, as 20"):
        Subset(size)
