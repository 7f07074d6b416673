"""One of N runs that share a batch without speaking to each other, as the tasks of a Slurm array do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from mfcd_core.errors import UsageError


@dataclass(frozen=True)
class Part:
    """The `index`-th (from 1) of `count` parts: disjoint, complete, and stable while items come and go."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"part {self}: expected I/N with I from 1 to N, as 3/16")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `I/N`. Raises UsageError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if found is None:
            raise UsageError(f"part {text!r}: expected I/N with I from 1 to N, as 3/16")
        return cls(int(found[1]), int(found[2]))

    def takes(self, number: int) -> bool:
        """Whether the item of this number (a hash of its name, or its place in the plan) is of this part."""
        return number % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Part()
