"""Which videos train and which test: the official split files as published, a CSV, or a seeded draw.

Everything here is pure: text in, `Splits` out. `Splits` maps a split's name to its roles, a role to its videos.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import xxhash

from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Splits = dict[str, dict[str, list[str]]]
Assignment = tuple[str, str, str]  # split, role, entry as published

ROLE_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validate", "validation"), "val"
)
HMDB51_ROLES = {"1": "train", "2": "test", "0": None}
UCF101_NAME = re.compile(r"(train|test)list(\d+)\.txt", re.IGNORECASE)
HMDB51_NAME = re.compile(r"(.+)_test_split(\d+)\.txt", re.IGNORECASE)
KINETICS_COLUMNS = frozenset({"youtube_id", "time_start", "time_end"})


@dataclass(frozen=True)
class ResolvedSplits:
    """Splits whose entries are ids of known videos; `unmatched` lists the published entries that match none."""

    splits: Splits
    unmatched: tuple[str, ...] = field(default=())


def is_split_file(name: str) -> bool:
    """Whether a file of this name is an official split file or a CSV."""
    return bool(UCF101_NAME.fullmatch(name) or HMDB51_NAME.fullmatch(name) or name.lower().endswith(".csv"))


def parse_split_file(name: str, text: str) -> Splits:
    """Read one split file as published; `name` is the file's name, which tells format, split and often role.

    UCF101 `trainlist01.txt`, HMDB51 `<class>_test_split1.txt`, Kinetics CSV, or CSV with columns path,split.

    Raises:
        UsageError: the name or a line fits none of these.
    """
    if found := UCF101_NAME.fullmatch(name):
        assignments = _iter_ucf101(text, found[1].lower(), f"split{int(found[2])}")
    elif found := HMDB51_NAME.fullmatch(name):
        assignments = _iter_hmdb51(name, text, found[1], f"split{int(found[2])}")
    elif name.lower().endswith(".csv"):
        assignments = _iter_csv(name, text)
    else:
        raise UsageError(
            f"{name} is not a split file: expected trainlistNN.txt, testlistNN.txt, *_test_splitN.txt or a .csv"
        )
    return _collected(assignments)


def merge_splits(parts: Iterable[Splits]) -> Splits:
    """Join the splits of several files into one; the same split and role add up."""
    return _collected(
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
    match = _matcher(ids)
    unmatched: list[str] = []

    def iter_matches() -> Iterator[Assignment]:
        for split, role, entry in _iter_assignments(published):
            video_id = match(entry)
            if video_id is None:
                unmatched.append(entry)
            else:
                yield split, role, video_id

    splits = {
        split: {role: sorted(v) for role, v in roles.items()} for split, roles in _collected(iter_matches()).items()
    }
    check_disjoint(splits)
    return ResolvedSplits(splits, tuple(unmatched))


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


def _collected(assignments: Iterable[Assignment]) -> Splits:
    ordered: dict[str, dict[str, dict[str, None]]] = {}
    for split, role, entry in assignments:
        ordered.setdefault(split, {}).setdefault(role, {})[entry] = None
    return {split: {role: list(entries) for role, entries in roles.items()} for split, roles in ordered.items()}


def _iter_assignments(splits: Splits) -> Iterator[Assignment]:
    for split, roles in splits.items():
        for role, entries in roles.items():
            for entry in entries:
                yield split, role, entry


def _iter_ucf101(text: str, role: str, split: str) -> Iterator[Assignment]:
    for line in text.splitlines():
        if line.strip():
            yield split, role, re.sub(r"\s+\d+$", "", line.strip())


def _iter_hmdb51(name: str, text: str, label: str, split: str) -> Iterator[Assignment]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        file_name, _, code = line.strip().rpartition(" ")
        if not file_name or code not in HMDB51_ROLES:
            raise UsageError(f"{name} line {number} is {line!r}: expected `file.avi 1`, `file.avi 2` or `file.avi 0`")
        role = HMDB51_ROLES[code]
        if role is not None:
            yield split, role, f"{label}/{file_name.rstrip()}"


def _iter_csv(name: str, text: str) -> Iterator[Assignment]:
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    columns = frozenset(rows.fieldnames or ())
    if columns >= KINETICS_COLUMNS:
        split, entry_of = "kinetics", _kinetics_entry
    elif columns >= {"path", "split"}:
        split, entry_of = os.path.splitext(name)[0], _path_entry  # noqa: PTH122, a name, not a file
    else:
        raise UsageError(f"{name} has columns {sorted(columns)}: expected path,split or those of Kinetics")
    for number, row in enumerate(rows, start=2):
        yield split, _role_of(row, name, number), _entry(entry_of, row, name, number)


def _entry(entry_of: Callable[[Mapping[str, str]], str], row: Mapping[str, str], name: str, number: int) -> str:
    try:
        return entry_of(row)
    except (ValueError, TypeError, AttributeError):
        raise UsageError(f"{name} line {number} is {dict(row)}: expected a value in every column") from None


def _role_of(row: Mapping[str, str], name: str, number: int) -> str:
    word = (row.get("split") or "").strip().lower()
    if word not in ROLE_WORDS:
        raise UsageError(f"{name} line {number} has split {word!r}: expected one of {', '.join(ROLE_WORDS)}")
    return ROLE_WORDS[word]


def _path_entry(row: Mapping[str, str]) -> str:
    return row["path"].strip()


def _kinetics_entry(row: Mapping[str, str]) -> str:
    """The file's path as the usual downloaders name it; the lists of the test set carry no label."""
    start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
    name = f"{row['youtube_id'].strip()}_{start:06d}_{end:06d}"
    label = (row.get("label") or "").strip()
    return f"{label}/{name}" if label else name


def _matcher(ids: Iterable[str]) -> Callable[[str], str | None]:
    """A function from a published entry to the id it means."""
    exact: set[str] = set()
    by_tail: defaultdict[str, list[str]] = defaultdict(list)
    for video_id in ids:
        exact.add(video_id)
        for tail in _tails(video_id):
            by_tail[tail].append(video_id)

    def match(entry: str) -> str | None:
        spellings = (entry, os.path.splitext(entry)[0])  # noqa: PTH122, an entry may lack its extension
        for spelling in spellings:
            if spelling in exact:
                return spelling
        for spelling in spellings:
            if found := _found_by_tail(spelling, by_tail):
                return _only(found, entry)
        return None

    return match


def _found_by_tail(spelling: str, by_tail: Mapping[str, list[str]]) -> list[str]:
    """Ids that end in the whole entry, or else ids that are an ending of the entry."""
    whole, *shorter = _tails(spelling)
    if whole in by_tail:
        return by_tail[whole]
    for tail in shorter:
        if found := [video_id for video_id in by_tail.get(tail, ()) if _normal(video_id) == tail]:
            return found
    return []


def _only(found: list[str], entry: str) -> str:
    if len(found) > 1:
        raise UsageError(f"entry {entry!r} fits {found[0]!r} and {found[1]!r}: name the folder in the list")
    return found[0]


def _normal(path: str) -> str:
    return path.replace(" ", "_")


def _tails(path: str) -> list[str]:
    parts = _normal(path).split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
