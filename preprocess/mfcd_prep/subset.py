"""A seeded draw of some of many items, so that a check of a large store may be short."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mfcd_core.errors import UsageError


@dataclass(frozen=True)
class Subset:
    """`size` as typed: a percentage, as `5%`, or a number of items; `seed` of the draw.

    A larger size draws the same items and more. Raises UsageError.
    """

    size: str
    seed: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{1,9}|\d{1,3}(\.\d{1,6})?%", self.size) or not 0 < self._value <= self._limit:
            raise UsageError(f"subset {self.size!r}: expected a percentage, as 5%, or a number of items, as 20")

    @property
    def _value(self) -> float:
        return float(self.size.removesuffix("%"))

    @property
    def _limit(self) -> float:
        return 100 if self.size.endswith("%") else float("inf")

    def draw(self, num_items: int) -> list[int]:
        """Rows of the items drawn, sorted; at least one where there are any."""
        wanted = -(-self._value * num_items // 100) if self.size.endswith("%") else self._value
        drawn: list[int] = np.sort(np.random.default_rng(self.seed).permutation(num_items)[: int(wanted)]).tolist()
        return drawn

    def __str__(self) -> str:
        return f"a draw of {self.size} with seed {self.seed}"


EVERYTHING = Subset("100%")
