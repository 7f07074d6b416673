"""How fast training goes, how much of it is waiting for data, and the line that says so."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TERMS = ("ce", "hint", "soft")
Item = TypeVar("Item")


@dataclass
class Pace:
    """Clips and seconds of waiting since it was made."""

    start: float = field(default_factory=time.monotonic)
    num_clips: int = 0
    waited_seconds: float = 0.0

    def add(self, num_clips: int, waited_seconds: float) -> None:
        """Count a step."""
        self.num_clips += num_clips
        self.waited_seconds += waited_seconds

    def rates(self) -> dict[str, float]:
        """Clips a second of all processes, and the share of time that this one spent waiting for data."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        return {"clips_per_second": self.num_clips / seconds, "data_wait": self.waited_seconds / seconds}


def progress_note(record: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    """Losses by their names, accuracy of the batch, speed and share of waiting, in one line."""
    terms = [f"{term} {float(record[f'loss/{term}']):.3f}" for term in TERMS if f"loss/{term}" in record]
    return (
        f"loss {float(record['loss/total']):.3f} ({', '.join(terms)}), top-1 {float(record['clip/top1']):.0%}, "
        f"{rates['clips_per_second']:.1f} clips/s, data wait {rates['data_wait']:.0%}"
    )


def timed(items: Iterator[Item]) -> Iterator[tuple[Item, float]]:
    """Each item with the seconds that were spent waiting for it."""
    while True:
        start = time.monotonic()
        try:
            item = next(items)
        except StopIteration:
            return
        yield item, time.monotonic() - start
