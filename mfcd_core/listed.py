"""The videos of SOURCE that lists name, and their classes: entries are found on disk, contradictions are errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mfcd_core.errors import UsageError
from mfcd_core.lists import BLANKS, iter_lines, iter_listed
from mfcd_core.matching import Matcher
from mfcd_core.names import id_of, inner_path, label_of, spelled_alike, why_unusable
from mfcd_core.splits import ambiguous, check_disjoint, collect_splits, is_split_file
from mfcd_core.tree import SourceTree, iter_video_paths

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mfcd_core.lists import Listed
    from mfcd_core.splits import Assignment

LONGEST_PATH, LONGEST_NAME = 4096, 255  # characters; longer ones cannot be opened


@dataclass
class Choice:
    """The class of each chosen path, or None; and the entries that mean no file, as published, each once."""

    label_of: dict[str, str | None] = field(default_factory=dict)
    unmatched: dict[str, None] = field(default_factory=dict)

    def add(self, path: str, label: str | None, where: str) -> None:
        """Choose a path. Raises UsageError where another entry gave it another class."""
        known = self.label_of.setdefault(path, label)
        if known is None:
            self.label_of[path] = label
        elif label is not None and spelled_alike(known) != spelled_alike(label):
            raise UsageError(
                f"{where} gives {path!r} the class {label!r}, but it has {known!r} already: "
                "expected one class a video; correct the lists"
            )


def choose_listed(
    root: Path, texts: Sequence[tuple[str, str]], classes: Sequence[str] | None, ignored: Counter[str]
) -> Choice:
    """The files under `root` that lists of (name, text) name; counts in `ignored` what can be no video, by reason.

    Raises:
        UsageError: an entry leaves `root` or means two files, or lists, `classes` and folders contradict each other.
    """
    choice = Choice()
    official = [(name, text) for name, text in texts if is_split_file(name)]
    if official:
        _choose_official(list(iter_video_paths(root, ignored)), official, classes, choice)
    tree = SourceTree(root)
    for name, text in texts:
        if not is_split_file(name):
            _choose_plain(tree, name, text, choice, ignored)
    choice.label_of = {path: label or label_of(path) for path, label in choice.label_of.items()}
    return choice


def _choose_plain(tree: SourceTree, name: str, text: str, choice: Choice, ignored: Counter[str]) -> None:
    for where, line in iter_lines(name, text):
        path, label = _read_line(tree, line, where)
        if path is None:
            choice.unmatched[line.strip(BLANKS)] = None
        elif reason := why_unusable(path):
            ignored[reason] += 1
        else:
            choice.add(path, label or None, where)


def _read_line(tree: SourceTree, line: str, where: str) -> tuple[str | None, str]:
    """The file and the label of a line: the longest beginning that names a file, and what follows a tab or a space."""
    for start in dict.fromkeys((line, line.lstrip(BLANKS))):
        for path, label in _iter_readings(start):
            inside = inner_path(path, where)
            try:
                found = tree.find(inside)
            except UsageError as error:
                raise UsageError(f"{where}: {error}") from None
            if found is not None:
                return found, label
    return None, ""


def _iter_readings(line: str) -> Iterator[tuple[str, str]]:
    """Yield (path, label), longest path first."""
    separator = "\t" if "\t" in line else " "
    if len(line) <= LONGEST_PATH:
        yield line, ""
    end = min(len(line), LONGEST_PATH)
    while (end := line.rfind(separator, 0, end)) > 0:
        if end - line.rfind("/", 0, end) <= LONGEST_NAME + 1:
            yield line[:end], line[end:].strip(BLANKS)


def _choose_official(
    paths: Sequence[str], texts: Sequence[tuple[str, str]], classes: Sequence[str] | None, choice: Choice
) -> None:
    matcher = Matcher([id_of(path) for path in paths])
    exact = frozenset(paths)
    folders = _Folders()
    number_of = None if classes is None else {spelled_alike(c): n for n, c in enumerate(classes, start=1)}

    def iter_found() -> Iterator[Assignment]:
        for name, text in texts:
            for listed in iter_listed(name, text):
                _check_class(listed, number_of)
                path = listed.path if listed.path in exact else _only(matcher.find(listed.path), paths, listed)
                if path is None:
                    choice.unmatched[listed.path] = None
                else:
                    choice.add(path, listed.label, listed.where)
                    folders.note(path, listed)
                    yield listed.split, listed.role, path

    check_disjoint(collect_splits(iter_found()))
    folders.check({label for label in choice.label_of.values() if label is not None} | set(classes or ()))


def _only(rows: list[int], paths: Sequence[str], listed: Listed) -> str | None:
    if len(rows) > 1:
        raise UsageError(f"{listed.where}: {ambiguous(listed.path, paths[rows[0]], paths[rows[1]])}")
    return paths[rows[0]] if rows else None


def _check_class(listed: Listed, number_of: Mapping[str, int] | None) -> None:
    """Raise UsageError where the class index numbers the class of an entry otherwise, or does not know it."""
    if number_of is None or listed.label is None:
        return
    given, indexed = listed.class_number, number_of.get(spelled_alike(listed.label))
    if indexed is None or given not in (None, indexed):
        raise UsageError(
            f"{listed.where} has class {listed.label!r}{f' as {given}' if given else ''}, the class index has it "
            f"{'not at all' if indexed is None else f'as {indexed}'}: correct one of the two"
        )


class _Folders:
    """Folders that entries do not name: `train` or `batch_07` may be called as they like, another class may not."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], tuple[str, str]] = {}

    def note(self, path: str, listed: Listed) -> None:
        if listed.label is None:
            return
        named = {spelled_alike(folder) for folder in listed.path.split("/")[:-1]}
        for folder in path.split("/")[:-1]:
            if spelled_alike(folder) not in named:
                self._first.setdefault((folder, listed.label), (path, listed.where))

    def check(self, classes: set[str]) -> None:
        keys = {spelled_alike(name) for name in classes}
        for (folder, label), (path, where) in self._first.items():
            if spelled_alike(folder) in keys - {spelled_alike(label)}:
                raise UsageError(
                    f"{where} gives {path!r} the class {label!r}, but it lies in the folder of class {folder!r}: "
                    "move the file or correct the list"
                )
