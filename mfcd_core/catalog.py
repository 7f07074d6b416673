"""What the videos are: a folder tree or a list, turned into ids and labels. Nothing here opens a video."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# fmt: off
VIDEO_EXTENSIONS = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv",
))
# fmt: on
OWN_FOLDER = ".mfcd"


@dataclass(frozen=True, slots=True)
class Video:
    """One source file.

    `id` is its path relative to SOURCE without extension, `path` the same with extension, both with `/` separators
    and as on disk; `label` is the class, or None where there is none.
    """

    id: str
    path: str
    label: str | None


@dataclass(frozen=True)
class Catalog:
    """The videos of one SOURCE, sorted by id; `ignored` counts what was left out, by reason."""

    root: Path
    videos: tuple[Video, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)

    def restricted_to(self, ids: Iterable[str]) -> Catalog:
        """The same catalog with the videos of these ids alone."""
        wanted = frozenset(ids)
        return Catalog(self.root, tuple(v for v in self.videos if v.id in wanted), self.ignored)


def read_catalog(source: Path, lists: Sequence[Path] = ()) -> Catalog:
    """Find the videos of the folder SOURCE, or those of a list of `path label` lines.

    Raises:
        UsageError: SOURCE is no folder, two videos have the same id, or a line of the list leaves SOURCE.
    """
    if not source.is_dir():
        raise UsageError(f"{source} is not a folder: give the folder that holds the videos")
    root = Path(os.path.realpath(source))
    if lists:
        return _catalog_of(root, parse_videos_list(lists[0].read_text("utf-8"), root), Counter())
    ignored: Counter[str] = Counter()
    paths = list(_iter_video_paths(root, ignored))
    return _catalog_of(root, (_video(path, _label_of(path)) for path in paths), ignored)


def parse_videos_list(text: str, root: Path) -> Iterator[Video]:
    """Yield the video of each `path label` line; a line without label takes its first folder as label.

    The label is what follows a tab, or else the last space, unless the whole line names a file in `root`.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            path, label = _split_line(line.removesuffix("\r"), root)
            yield _video(_checked(path, root, number), label or _label_of(path))


def id_of(path: str) -> str:
    """The id of a video: its path relative to SOURCE, without extension."""
    return os.path.splitext(path)[0]  # noqa: PTH122, a Path would forget `./` and doubled slashes of other systems


def _video(path: str, label: str | None) -> Video:
    return Video(id_of(path), path, label)


def _label_of(path: str) -> str | None:
    parts = path.split("/")
    return parts[0] if len(parts) > 1 else None


def _catalog_of(root: Path, videos: Iterable[Video], ignored: Mapping[str, int]) -> Catalog:
    by_id: dict[str, Video] = {}
    for video in videos:
        other = by_id.setdefault(video.id, video)
        if other != video:
            raise UsageError(
                f"{_shown(other)} and {_shown(video)} would both be the video {video.id!r}: "
                "expected one file and one label an id; rename or leave out one of the two"
            )
    return Catalog(root, tuple(by_id[key] for key in sorted(by_id)), dict(ignored))


def _shown(video: Video) -> str:
    return repr(video.path) if video.label is None else f"{video.path!r} ({video.label})"


def _iter_video_paths(root: Path, ignored: Counter[str]) -> Iterator[str]:
    """Yield the paths of video files under `root`, relative; count every other file by reason."""
    for folder, subfolders, names in os.walk(root):
        _leave_out_subfolders(folder, subfolders, ignored)
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")  # noqa: PTH118
            reason = _why_ignored(path, root)
            if reason is None:
                yield path
            else:
                ignored[reason] += 1


def _leave_out_subfolders(folder: str, subfolders: list[str], ignored: Counter[str]) -> None:
    for name in list(subfolders):
        reason = "hidden" if name.startswith(".") else "link to a folder" if Path(folder, name).is_symlink() else None
        if reason is not None:
            subfolders.remove(name)
            ignored[reason] += 1


def _why_ignored(path: str, root: Path) -> str | None:
    name = path.rpartition("/")[2]
    extension = PurePosixPath(name).suffix
    if name.startswith("."):
        return "hidden"
    if extension.lower() not in VIDEO_EXTENSIONS:
        return f"extension {extension}" if extension else "no extension"
    if not _is_utf8(path):
        return "name is not UTF-8"
    if not _stays_inside(root / path, root):
        return "link out of the source folder"
    return None if (root / path).is_file() else "not a regular file"


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _stays_inside(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def _split_line(line: str, root: Path) -> tuple[str, str]:
    if "\t" in line:
        path, _, label = line.partition("\t")
        return path, label.strip()
    whole = line.strip()
    path, _, label = whole.rpartition(" ")
    return (whole, "") if not path or (root / whole).is_file() else (path.rstrip(), label)


def _checked(path: str, root: Path, number: int) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or OWN_FOLDER in pure.parts[:1] or "\0" in path:
        raise UsageError(
            f"line {number} of the list names {path!r}: expected a path relative to the source folder, without `..`"
        )
    if not _stays_inside(root / path, root):
        raise UsageError(f"line {number} of the list: {path!r} is a link that leaves {root}: copy the file there")
    return str(pure)
