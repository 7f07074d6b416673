"""Small videos that share one start of ffmpeg: which, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mfcd_prep.encode_entry import Todo
    from mfcd_prep.workers import Workers

MAX_VIDEOS, MAX_BYTES = 4, 4 << 20
MAX_WASTED_SHARE = 1 / 32
SURE_TO_BE_ENCODED = ("new", "settings changed")

Group = tuple["Todo", ...]


class Groups:
    """What is to do, in groups for one task each: one video, or several small ones.

    A group of which anything is not beyond doubt is split, and its videos are encoded again, one by one. Where that
    makes more than MAX_WASTED_SHARE of all, videos come alone. Towards the end of `num_todo` groups are smaller, so
    that no place of `workers` waits for another.
    """

    def __init__(self, todo: Iterator[Todo], num_todo: int, workers: Workers) -> None:
        self._todo, self._num_left, self._workers = todo, num_todo, workers
        self._num_drawn = self._num_wasted = 0

    def __iter__(self) -> Iterator[Group]:
        group: list[Todo] = []
        for todo in self._todo:
            if group and not _share([*group, todo]):
                yield self._drawn(group)
                group = []
            group.append(todo)
            if len(group) >= self._size():
                yield self._drawn(group)
                group = []
        if group:
            yield self._drawn(group)

    def _drawn(self, group: list[Todo]) -> Group:
        self._num_drawn += len(group)
        self._num_left -= len(group)
        return tuple(group)

    def _size(self) -> int:
        if self._num_wasted > MAX_WASTED_SHARE * self._num_drawn:
            return 1
        return min(MAX_VIDEOS, self._num_left // (self._workers.num_slots + 1))

    def split(self, group: Group) -> Sequence[Group]:
        """Each video of a group that did not come to its end by itself."""
        if len(group) > 1:
            self._num_wasted += len(group)
        return [(todo,) for todo in group]


def _share(group: Sequence[Todo]) -> bool:
    is_sure = all(todo.why in SURE_TO_BE_ENCODED for todo in group)
    return is_sure and sum(todo.num_bytes for todo in group) <= MAX_BYTES
