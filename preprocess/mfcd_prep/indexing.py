"""The index of a store from the tables of its shards, and what only the index knows: labels, classes, splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfcd_core.atomic import replacing
from mfcd_core.console import warn
from mfcd_core.errors import UsageError
from mfcd_core.lists import decode_list
from mfcd_core.splits import (
    is_class_index,
    merge_splits,
    parse_class_index,
    parse_split_file,
    random_split,
    resolve_splits,
)
from mfcd_core.store.index import GOPS, NO_LABEL, ShardEntry, Shards, StoreIndex, split_rows, write_index
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.places import gop_place_dtype
from mfcd_core.store.videos import Videos
from mfcd_prep.versions import library_versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mfcd_core.splits import Splits
    from mfcd_core.store.layout import Shard
    from mfcd_core.store.settings import StoreSettings
    from mfcd_prep.placing import Placed
    from mfcd_prep.survey import Survey


@dataclass(frozen=True)
class Labelling:
    """The classes in their order, and the splits of the lists by video ids; None where there are no lists."""

    classes: tuple[str, ...]
    splits: Splits | None


def read_labelling(split_files: Sequence[Path], survey: Survey) -> Labelling:
    """What the split files say of the videos. Raises UsageError where one cannot be read, or none matches a video."""
    texts = {path: _read_text(path) for path in split_files}
    classes = _classes([parse_class_index(text) for path, text in texts.items() if is_class_index(path.name)], survey)
    published = merge_splits(
        parse_split_file(path.name, text) for path, text in texts.items() if not is_class_index(path.name)
    )
    if not published:
        return Labelling(classes, None)
    resolved = resolve_splits(published, [video.id for video in survey.videos])
    if resolved.unmatched:
        first = resolved.unmatched[0]
        warn(f"{len(resolved.unmatched)} entries of the splits match no video, the first is {first!r}")
    if not resolved.splits:
        raise UsageError(f"no entry of the splits matches a video: expected paths such as {survey.videos[0].id!r}")
    return Labelling(classes, resolved.splits)


def _classes(published: Sequence[tuple[str, ...]], survey: Survey) -> tuple[str, ...]:
    """In the order of classInd.txt where it is given, else sorted."""
    if not published:
        return survey.classes
    if unknown := sorted(set(survey.classes) - set(published[0])):
        raise UsageError(f"class {unknown[0]!r} is not in the class index: expected one of its {len(published[0])}")
    return published[0]


def write_store_index(
    store: Path, survey: Survey, settings: StoreSettings, present: Sequence[Placed], labelling: Labelling
) -> Videos:
    """Write gops.npy, then videos.npz and index.json, from the tables of the shards."""
    shards = [read_shard_file(store / task.name) for task, _ in present]
    videos = _videos_of(shards, survey, labelling.classes)
    write_places(store / GOPS, shards)
    entries = [
        ShardEntry(task.name, record.file.bytes, record.checksum, len(shard.videos), len(shard.gops))
        for (task, record), shard in zip(present, shards, strict=True)
        if record.file
    ]
    splits = labelling.splits
    rows = split_rows(videos, _drawn_splits(videos, labelling.classes) if splits is None else splits)
    versions = library_versions(settings.decoder)
    write_index(store, StoreIndex(settings, labelling.classes, Shards.collect(entries), videos, rows, versions))
    return videos


def _videos_of(shards: Sequence[Shard], survey: Survey, classes: Sequence[str]) -> Videos:
    label_of = {video.id: video.label for video in survey.videos}
    row_of = {label: row for row, label in enumerate(classes)}
    ids = [video_id for shard in shards for video_id in shard.ids]
    labels = [label_of[video_id] for video_id in ids]
    return Videos.collect(
        ids,
        labels=np.array([NO_LABEL if label is None else row_of[label] for label in labels], np.int32),
        num_gops=np.concatenate([shard.videos["num_gops"] for shard in shards]).astype(np.int64),
        num_frames=np.concatenate([shard.videos["num_frames"] for shard in shards]).astype(np.int64),
    )


def write_places(path: Path, shards: Sequence[Shard]) -> None:
    """Write gops.npy from the tables of all shards."""
    dtype = gop_place_dtype(shards[0].settings)
    with replacing(path) as part, part.open("wb") as file:
        places = np.zeros(sum(len(shard.gops) for shard in shards), dtype)
        places["shard"] = np.repeat(np.arange(len(shards)), [len(shard.gops) for shard in shards])
        for column in (dtype.names or ())[1:]:
            places[column] = np.concatenate([shard.gops[column] for shard in shards])
        np.save(file, places, allow_pickle=False)


def _read_text(path: Path) -> str:
    try:
        return decode_list(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error}): expected a split file") from None


def _drawn_splits(videos: Videos, classes: Sequence[str]) -> Splits:
    """A seeded draw of 80/20 a class among the labelled videos."""
    labelled = np.flatnonzero(videos.labels != NO_LABEL)
    if not len(labelled):
        warn("no labels: files directly in the folder; the store can be read, but not trained on")
        return {}
    warn("no --splits: 80/20 a class are drawn by a seeded hash, split `random`")
    return random_split([videos.id(int(row)) for row in labelled], [classes[videos.labels[row]] for row in labelled])
