"""The files of SOURCE on disk: every folder is listed once, and a file alone is looked at only if it is a link."""

from __future__ import annotations

import os
from collections import defaultdict
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from mfcd_core.errors import UsageError
from mfcd_core.names import composed, why_no_video, why_unusable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path

FOLDERS_KEPT = 4096


def iter_video_paths(root: Path, ignored: Counter[str]) -> Iterator[str]:
    """Yield the paths of video files under `root`, relative, `/` separated; count every other file by reason.

    Raises:
        UsageError: `root` itself cannot be listed.
    """
    folders = [""]
    while folders:
        prefix = folders.pop()
        for entry in _entries(root, prefix, ignored):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                folders.append(f"{path}/")
            elif reason := _why_ignored(entry, path, root):
                ignored[reason] += 1
            else:
                yield path


def _entries(root: Path, prefix: str, ignored: Counter[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / prefix) as entries:
            return list(entries)
    except OSError as error:
        if not prefix:
            raise UsageError(f"{root} cannot be listed ({error.strerror}): give a folder that you may read") from None
        ignored["folder that cannot be listed"] += 1
        return []


def _why_ignored(entry: os.DirEntry[str], path: str, root: Path) -> str | None:
    if entry.is_symlink():
        return _why_link_ignored(entry, path, root)
    if reason := why_no_video(entry.name) or why_unusable(path):
        return reason
    return None if entry.is_file(follow_symlinks=False) else "not a regular file"


def _why_link_ignored(entry: os.DirEntry[str], path: str, root: Path) -> str | None:
    if not entry.name.startswith(".") and os.path.isdir(entry):  # noqa: PTH112, a Path may raise
        return "link to a folder"
    if reason := why_no_video(entry.name) or why_unusable(path):
        return reason
    if not _stays_inside(root, path):
        return "link out of the source folder"
    return None if os.path.isfile(entry) else "not a regular file"  # noqa: PTH113, a Path may raise


def _stays_inside(root: Path, path: str) -> bool:
    return os.path.commonpath((root, os.path.realpath(root / path))) == str(root)


class SourceTree:
    """Finds files of `root`, a real path, by relative paths that may be spelled in another Unicode normal form."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listing = lru_cache(FOLDERS_KEPT)(self._list)
        self._folder = lru_cache(FOLDERS_KEPT)(self._locate)

    def find(self, path: str) -> str | None:
        """The path as on disk of the regular file that `path` names, or None where there is none.

        A part of the path names the entry of exactly its spelling, or else the only one that is equal in normal form.

        Raises:
            UsageError: two entries fit, or a link on the way leaves SOURCE.
        """
        found = self._locate(path)
        return found if found is not None and self._is_file(found) else None

    def _is_file(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        kind = self._listing(folder).kinds[name]
        return kind == "file" or (kind == "link" and os.path.isfile(self._root / path))  # noqa: PTH113, a Path may raise

    def _locate(self, path: str) -> str | None:
        parent, _, name = path.rpartition("/")
        folder = self._folder(parent) if parent else ""
        if folder is None:
            return None
        listing = self._listing(folder)
        spelling = listing.spelling_of(name, folder)
        if spelling is None:
            return None
        found = f"{folder}/{spelling}" if folder else spelling
        if listing.kinds[spelling] == "link" and not _stays_inside(self._root, found):
            raise UsageError(f"{found!r} is a link that leaves {self._root}: copy the file there")
        return found

    def _list(self, folder: str) -> _Listing:
        try:
            with os.scandir(self._root / folder) as entries:
                return _Listing({entry.name: _kind(entry) for entry in entries})
        except OSError:
            return _Listing({})


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


class _Listing:
    """The entries of one folder: `kinds` says of each name whether it is a link, a file or something else."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self.kinds = kinds

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        spellings: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.kinds:
            spellings[composed(name)].append(name)
        return spellings

    def spelling_of(self, name: str, folder: str) -> str | None:
        if name in self.kinds:
            return name
        spellings = self._spellings.get(composed(name), [])
        if len(spellings) > 1:
            raise UsageError(
                f"{name!r} fits {spellings[0]!a} and {spellings[1]!a} in {folder or '.'!r}, "
                "two spellings of one name: rename one of the two"
            )
        return spellings[0] if spellings else None
