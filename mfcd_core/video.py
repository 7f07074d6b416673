"""One source file, as every part of the way knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Video:
    """One source file.

    `id` is its path relative to SOURCE without extension, `path` the same with extension, both with `/` separators
    and as on disk; `label` is the class, or None where there is none.
    """

    id: str
    path: str
    label: str | None
