"""Which videos train and which test: the official split files as published, a CSV, or a seeded draw.

Everything here is pure: text in, `Splits` out. `Splits` maps a split's name to its roles, a role to its videos.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import xxhash

from mfcd_core.errors import UsageError
from mfcd_core.lists import iter_lines, iter_listed, reader_of
from mfcd_core.matching import Matcher
from mfcd_core.names import composed, spelled_alike

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Splits = dict[str, dict[str, list[str]]]
Assignment = tuple[str, str, str]  # split, role, entry as published

CLASS_INDEX_NAME = "classind.txt"


@dataclass(frozen=True)
class ResolvedSplits:
    """Splits whose entries are ids of known videos; `unmatched` lists the published entries that match none."""

    splits: Splits
    unmatched: tuple[str, ...] = field(default=())


def is_split_file(name: str) -> bool:
    """Whether a file of this name is an official split file or a CSV."""
    return reader_of(name) is not None


def is_class_index(name: str) -> bool:
    """Whether a file of this name is the class index of UCF101, `classInd.txt`."""
    return name.lower() == CLASS_INDEX_NAME


def parse_split_file(name: str, text: str) -> Splits:
    """Read one split file as published; `name` is the file's name, which tells format, split and often role.

    UCF101 `trainlist01.txt`, HMDB51 `<class>_test_split1.txt`, Kinetics CSV, or CSV with columns path,split.

    Raises:
        UsageError: the name or a line fits none of these, or an entry leaves SOURCE.
    """
    return collect_splits((listed.split, listed.role, listed.path) for listed in iter_listed(name, text))


def parse_class_index(text: str) -> tuple[str, ...]:
    """The classes of a `classInd.txt` in the order of their numbers; its lines are `1 ApplyEyeMakeup`.

    Raises:
        UsageError: a line is no number and name, or the numbers are not 1 to n, each with its own class.
    """
    name_of: dict[int, str] = {}
    for where, line in iter_lines("the class index", text):
        number, _, name = line.strip().partition(" ")
        if not (number.isdecimal() and number.isascii() and name.strip()):
            raise UsageError(f"{where} is {line!r}: expected a number and a class, such as `1 ApplyEyeMakeup`")
        if name_of.setdefault(int(number), name.strip()) != name.strip():
            raise UsageError(f"{where} is {line!r}: expected each number once, but {number} is {name_of[int(number)]}")
    classes = tuple(name_of[number] for number in sorted(name_of))
    if sorted(name_of) != list(range(1, len(classes) + 1)) or len(set(map(spelled_alike, classes))) != len(classes):
        raise UsageError(
            f"the class index has {len(classes)} numbers: expected 1 to n without gaps, each its own class"
        )
    return classes


def merge_splits(parts: Iterable[Splits]) -> Splits:
    """Join the splits of several files into one; the same split and role add up."""
    return collect_splits(
        (split, role, entry)
        for part in parts
        for split, roles in part.items()
        for role, entries in roles.items()
        for entry in entries
    )


def resolve_splits(published: Splits, ids: Iterable[str]) -> ResolvedSplits:
    """Turn published entries into ids of a store: equal paths first, then equal trailing folders and name.

    Spaces and underscores are the same here, since Kinetics is stored with either.

    Raises:
        UsageError: an entry fits two videos, or a video has two roles in one split.
    """
    known = list(ids)
    matcher = Matcher(known)
    unmatched: list[str] = []

    def iter_matches() -> Iterator[Assignment]:
        for split, role, entry in _iter_assignments(published):
            rows = matcher.find(entry)
            if len(rows) > 1:
                raise UsageError(ambiguous(entry, known[rows[0]], known[rows[1]]))
            if rows:
                yield split, role, known[rows[0]]
            else:
                unmatched.append(entry)

    splits = {
        split: {role: sorted(v) for role, v in roles.items()} for split, roles in collect_splits(iter_matches()).items()
    }
    check_disjoint(splits)
    return ResolvedSplits(splits, tuple(unmatched))


def ambiguous(entry: str, first: str, second: str) -> str:
    """The message for an entry that means two videos."""
    show = ascii if composed(first) == composed(second) else repr
    return (
        f"entry {entry!r} fits {show(first)} and {show(second)}: name the folder in the list, or rename one of the two"
    )


def check_disjoint(splits: Splits) -> None:
    """Raise UsageError where a video has two roles in one split: it would be trained on and tested with."""
    for split, roles in splits.items():
        role_of: dict[str, str] = {}
        for role, video_ids in roles.items():
            for video_id in video_ids:
                if role_of.setdefault(video_id, role) != role:
                    raise UsageError(
                        f"{video_id!r} is in {role_of[video_id]} and in {role} of split {split!r}: "
                        "expected one role a video; correct the lists"
                    )


def random_split(ids: Sequence[str], labels: Sequence[str | None], seed: int = 0, test_share: float = 0.2) -> Splits:
    """Draw the split `random`: in each class the `test_share` of videos whose hash with `seed` is lowest.

    A class of two videos or more has one at least in each role. One more video moves at most one other.
    """
    classes: defaultdict[str | None, list[str]] = defaultdict(list)
    for video_id, label in zip(ids, labels, strict=True):
        classes[label].append(video_id)
    roles: dict[str, list[str]] = {"train": [], "test": []}
    for members in classes.values():
        drawn = sorted(members, key=lambda video_id: (_draw(seed, video_id), video_id))
        num_test = _num_test(len(members), test_share)
        roles["test"] += drawn[:num_test]
        roles["train"] += drawn[num_test:]
    return {"random": {role: sorted(video_ids) for role, video_ids in roles.items()}}


def _draw(seed: int, video_id: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{seed}:{video_id}".encode())


def _num_test(num_videos: int, test_share: float) -> int:
    if num_videos < 2:
        return 0
    return min(max(round(num_videos * test_share), 1), num_videos - 1)


def collect_splits(assignments: Iterable[Assignment]) -> Splits:
    """Gather assignments by split and role, in their order, each entry once."""
    ordered: dict[str, dict[str, dict[str, None]]] = {}
    for split, role, entry in assignments:
        ordered.setdefault(split, {}).setdefault(role, {})[entry] = None
    return {split: {role: list(entries) for role, entries in roles.items()} for split, roles in ordered.items()}


def _iter_assignments(splits: Splits) -> Iterator[Assignment]:
    for split, roles in splits.items():
        for role, entries in roles.items():
            for entry in entries:
                yield split, role, entry
