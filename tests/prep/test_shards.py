"""Which shards change their bytes when the encoded set changes: those of the change, and at most a neighbour."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import cut_frames, write_video

from mfcd_core.store.settings import StoreSettings
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.shards import plan_shards
from mfcd_prep.survey import EncodedVideo, EncodedVideos, Survey

MAX_CHANGED = 2  # its own shard and a neighbour
SHARD_GOPS = 6
NUM_VIDEOS = 72


def keys_of(ids: list[str], shard_gops: int) -> set[str]:
    """The keys of all shards of videos of these ids: equal keys are equal bytes."""
    videos = EncodedVideos.collect(
        EncodedVideo(i, f"{i}.mp4", None, 1 + len(i) % 7 + int(i[-1]), None, f"{hash_of(i):016x}") for i in sorted(ids)
    )
    survey = Survey(Path("e"), (64, 48), 12, {}, videos, ())
    return {task.key for task in plan_shards(survey, StoreSettings(64, 48), shard_gops)}


def hash_of(video_id: str) -> int:
    return sum(ord(letter) << 3 * place for place, letter in enumerate(video_id)) % 2**64


def test_over_thousands_of_videos_each_change_touches_two_shards_at_most() -> None:
    rng = np.random.default_rng(4)
    ids = [f"class{rng.integers(50):02}/v_{number:05}" for number in range(4000)]
    before = keys_of(ids, 256)
    assert len(before) > 60
    for row in rng.choice(len(ids), 10, replace=False).tolist():
        fewer = keys_of([*ids[:row], *ids[row + 1 :]], 256)
        more = keys_of([*ids, f"{ids[row]}-another{rng.integers(10)}"], 256)
        assert max(len(before - fewer), len(fewer - before)) <= MAX_CHANGED
        assert max(len(before - more), len(more - before)) <= MAX_CHANGED
        assert fewer != before != more


@pytest.fixture(scope="module")
def encoded_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 videos of one to four GOPs under scattered names, without a manifest."""
    folder = tmp_path_factory.mktemp("many")
    for kind in range(4):
        frames = cut_frames(12 + 12 * kind, every=5 + kind, height=32, width=32)
        write_video(folder / "source" / f"{kind}.mp4", frames)
    encode_videos(folder / "source", folder / "few", EncodeSettings(size=(32, 32)))
    for number in range(NUM_VIDEOS):
        target = folder / "encoded" / ("jump", "run")[number % 2] / f"{number * 7919 % 1000:03}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "few" / f"{number % 4}.mp4", target)
    return folder / "encoded"


def shards_of(encoded: Path, store: Path) -> set[bytes]:
    extract_videos(encoded, store, ExtractOptions(shard_gops=SHARD_GOPS))
    return {path.read_bytes() for path in store.glob("shard-*.h5")}


@pytest.mark.slow
def test_one_more_one_less_and_one_that_fails_change_their_shard_and_at_most_a_neighbour(
    encoded_many: Path, tmp_path: Path
) -> None:
    whole = shards_of(encoded_many, tmp_path / "whole")
    assert len(whole) > 10
    paths = sorted(path.relative_to(encoded_many) for path in encoded_many.rglob("*.mp4"))
    for number, path in enumerate(paths[::8]):
        for change in ("less", "more", "fails"):
            encoded = shutil.copytree(encoded_many, tmp_path / f"{number} {change}")
            video = encoded / path
            if change == "less":
                video.unlink()
            elif change == "more":
                shutil.copy(video, video.with_stem(f"{video.stem}a"))
            else:  # coded pictures become something else: none decodes
                video.write_bytes(video.read_bytes().replace(b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb7"))
            store = shutil.copytree(tmp_path / "whole", tmp_path / f"store {number} {change}")
            after = shards_of(encoded, store)
            limit = 1 if change == "fails" else MAX_CHANGED
            assert len(whole - after) <= limit, (path, change)
            assert len(after - whole) <= limit, (path, change)
            assert after != whole
