"""What a check of this machine comes to."""

from __future__ import annotations

from dataclasses import dataclass

STATUSES = ("ok", "warning", "problem")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of STATUSES, what was found, and what to install or set where that is not well."""

    status: str
    found: str
    remedy: str = ""


def ok(found: str) -> Verdict:
    """All is well."""
    return Verdict("ok", found)


def warning(found: str, remedy: str) -> Verdict:
    """It works, but slower or with less than there could be."""
    return Verdict("warning", found, remedy)


def problem(found: str, remedy: str) -> Verdict:
    """Something will fail."""
    return Verdict("problem", found, remedy)
