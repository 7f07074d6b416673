"""Which video a published entry means: lists name folders, extensions, blanks and case as their authors had them."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from mfcd_core.names import blanks_joined, spelled_alike, without_video_extension

if TYPE_CHECKING:
    from collections.abc import Sequence

SPELLINGS = (str, blanks_joined, spelled_alike)
KINETICS_NAME = re.compile(r".{11}_\d{6}_\d{6}")  # YouTube's id, in which case counts, and times in seconds
UNIQUE_NAME = re.compile(
    rf"{KINETICS_NAME.pattern}"
    r"|v_\w+_g\d\d_c\d\d"  # UCF101
    r"|.+_[fhlu]_[cn]m_np\d_(ba|fr|le|ri)_(bad|goo|med)_\d+"  # HMDB51
)


class Matcher:
    """Finds the rows of `ids` that an entry of a list means.

    Nearness counts first: the id itself; an id that ends in the whole entry; an id that is an ending of the entry; an
    id of the same name in whatever folder, where such names are unique in their data set. Then spelling: as published;
    in Unicode normal form, with blanks or underscores; in any case, but for Kinetics.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._row_of: dict[str, int] = {}
        self._further_rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, video_id in enumerate(ids):
            name = spelled_alike(_name_of(video_id))
            if self._row_of.setdefault(name, row) != row:
                self._further_rows[name].append(row)

    def find(self, entry: str) -> list[int]:
        """The rows that fit best: none, one, or several where the entry does not tell them apart."""
        for spelling in dict.fromkeys((without_video_extension(entry), entry)):
            if rows := self._nearest(spelling):
                return rows
        return []

    def _nearest(self, entry: str) -> list[int]:
        name = spelled_alike(_name_of(entry))
        if name not in self._row_of:
            return []
        by_distance: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for row in (self._row_of[name], *self._further_rows.get(name, ())):
            if distance := _distance(entry, self._ids[row]):
                by_distance[distance].append(row)
        return by_distance[min(by_distance)] if by_distance else []


def _name_of(path: str) -> str:
    return path.rpartition("/")[2]


def _distance(entry: str, video_id: str) -> tuple[int, int] | None:
    """How far an id is from an entry, by nearness and then by spelling; None where they do not fit."""
    num_steps = 2 if KINETICS_NAME.fullmatch(_name_of(entry)) else 3
    distances = (
        (nearness, step)
        for step, spell in enumerate(SPELLINGS[:num_steps])
        if (nearness := _nearness(spell(entry), spell(video_id))) is not None
    )
    return min(distances, default=None)


def _nearness(entry: str, video_id: str) -> int | None:
    if entry == video_id:
        return 0
    if video_id.endswith(f"/{entry}"):
        return 1
    if entry.endswith(f"/{video_id}"):
        return 2
    name = _name_of(entry)
    return 3 if name == _name_of(video_id) and UNIQUE_NAME.fullmatch(name) else None
