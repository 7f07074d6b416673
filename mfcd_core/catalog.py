"""What the videos are: a folder tree or lists, turned into ids and labels. Nothing here opens a video."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from mfcd_core.errors import UsageError
from mfcd_core.listed import Choice, choose_listed
from mfcd_core.lists import decode_list
from mfcd_core.names import OWN_FOLDER, VIDEO_EXTENSIONS, folded, id_of, label_of, spelled_alike
from mfcd_core.splits import is_class_index, parse_class_index
from mfcd_core.tree import iter_video_paths
from mfcd_core.video import Video

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["OWN_FOLDER", "VIDEO_EXTENSIONS", "Catalog", "Video", "VideoTable", "id_of", "read_catalog"]

NO_LABEL = -1
OUTPUT_FOLDER = re.compile(r"\.mp4/")
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False, slots=True)
class VideoTable(Sequence[Video]):
    """Videos by columns, made into a `Video` when asked for; a slice is a view.

    ids: (N,) StringDType. extensions, labels: (N,) int32, positions in `extension_names` and `label_names`;
    a label is -1 where there is none.
    """

    ids: NDArray[np.generic]
    extensions: NDArray[np.int32]
    labels: NDArray[np.int32]
    extension_names: tuple[str, ...]
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, key: int) -> Video: ...
    @overload
    def __getitem__(self, key: slice) -> VideoTable: ...
    def __getitem__(self, key: int | slice) -> Video | VideoTable:
        if isinstance(key, slice):
            columns = (self.ids[key], self.extensions[key], self.labels[key])
            return VideoTable(*columns, self.extension_names, self.label_names)
        return self._video(self.ids[key], self.extensions[key], self.labels[key])

    def __iter__(self) -> Iterator[Video]:
        for start in range(0, len(self), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            columns = (column[rows].tolist() for column in (self.ids, self.extensions, self.labels))
            yield from map(self._video, *columns)

    def _video(self, video_id: str, extension: int, label: int) -> Video:
        path = f"{video_id}{self.extension_names[extension]}"
        return Video(video_id, path, None if label == NO_LABEL else self.label_names[label])


@dataclass(frozen=True)
class Catalog:
    """The videos of one SOURCE, sorted by id.

    root: the real path of SOURCE. ignored: how many files were left out, by reason. unmatched: entries of lists that
    mean no video, as published. classes: those of a `classInd.txt`, in its order; every label is one of them.
    """

    root: Path
    videos: VideoTable
    ignored: Mapping[str, int] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.videos)


def read_catalog(source: Path, lists: Sequence[Path] = ()) -> Catalog:
    """Find the videos of the folder SOURCE, or those of them that lists name; a list's name tells its format.

    Lists are lines of `path label`, official lists of UCF101, HMDB51 and Kinetics, CSV with path,split[,label], and
    UCF101's `classInd.txt`, which gives the order of classes and leaves out nothing. A label comes from the list,
    else from the first folder.

    Raises:
        UsageError: SOURCE or a list cannot be read; an entry leaves SOURCE or means two videos; lists, class index and
            folders contradict each other; two videos would have one id, or ids that some file system takes for one.
    """
    if not source.is_dir():
        raise UsageError(f"{source} is not a folder: give the folder that holds the videos")
    root = Path(os.path.realpath(source))
    ignored: Counter[str] = Counter()
    classes = _read_classes([path for path in lists if is_class_index(path.name)])
    texts = [(path.name, _read_text(path)) for path in lists if not is_class_index(path.name)]
    if texts:
        choice = choose_listed(root, texts, classes, ignored)
    else:
        choice = Choice({path: label_of(path) for path in iter_video_paths(root, ignored)})
    labels = _as_in_class_index(choice.label_of, classes)
    return Catalog(root, build_table(labels), dict(ignored), tuple(choice.unmatched), classes)


def _read_text(path: Path) -> str:
    try:
        return decode_list(path.read_bytes())
    except (OSError, UsageError) as error:
        raise UsageError(f"{path} cannot be read ({error}): expected a list of videos, text in UTF-8") from None


def _read_classes(paths: Sequence[Path]) -> tuple[str, ...] | None:
    indexes = {parse_class_index(_read_text(path)): path for path in paths}
    if len(indexes) > 1:
        raise UsageError(f"{' and '.join(map(str, indexes.values()))} number the classes differently: give one of them")
    return next(iter(indexes), None)


def _as_in_class_index(label_of: Mapping[str, str | None], classes: Sequence[str] | None) -> Mapping[str, str | None]:
    """The same labels as the class index spells them. Raises UsageError where it has no such class."""
    if classes is None:
        return label_of
    spelling_of = {spelled_alike(name): name for name in classes}
    for path, label in label_of.items():
        if label is not None and spelled_alike(label) not in spelling_of:
            raise UsageError(f"{path!r} has the class {label!r}, which the class index lacks: leave out the file or it")
    return {path: label and spelling_of[spelled_alike(label)] for path, label in label_of.items()}


def build_table(label_of: Mapping[str, str | None]) -> VideoTable:
    paths = sorted(label_of, key=lambda path: (id_of(path), path))
    _check_ids(paths)
    ids = [id_of(path) for path in paths]
    extensions, extension_names = _coded(path[len(id_) :] for path, id_ in zip(paths, ids, strict=True))
    labels, label_names = _coded(label_of[path] for path in paths)
    return VideoTable(np.array(ids, np.dtypes.StringDType()), extensions, labels, extension_names, label_names)


def _coded(names: Iterable[str | None]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Names as positions in a table, -1 for None; and the table, in order of appearance."""
    table: dict[str, int] = {}
    codes = (NO_LABEL if name is None else table.setdefault(name, len(table)) for name in names)
    return np.fromiter(codes, np.int32), tuple(table)


def _check_ids(paths: Sequence[str]) -> None:
    """Raise UsageError where two videos have one id, or outputs that some file system takes for one."""
    path_of: dict[str, str] = {}
    for path in paths:
        other = path_of.setdefault(folded(id_of(path)), path)
        if other is not path:
            _refuse(other, path)
    for key, path in path_of.items():
        for folder in OUTPUT_FOLDER.finditer(key):  # the output of `a` is a.mp4, where a folder a.mp4 cannot be
            if (blocked := key[: folder.start()]) in path_of:
                _refuse(path_of[blocked], path)


def _refuse(first: str, second: str) -> None:
    if id_of(first) == id_of(second):
        raise UsageError(
            f"{first!r} and {second!r} would both be the video {id_of(first)!r}: expected one file an id; "
            "rename or leave out one of the two"
        )
    raise UsageError(
        f"{first!a} and {second!a} would be in each other's way on file systems that ignore case or Unicode normal "
        "form: rename or leave out one of the two"
    )
