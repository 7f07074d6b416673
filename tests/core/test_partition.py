"""Which video goes into which shard depends on the sorted ids alone, and one video more or less moves little."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from mfcd_core.store.partition import LIMIT_SHARDS, partition

GopCounts = dict[str, int]
MAX_CHANGED = 2  # its own shard and a neighbour


def shards_of(videos: GopCounts, shard_gops: int) -> list[tuple[str, ...]]:
    ids = sorted(videos)
    ranges = partition(ids, [videos[i] for i in ids], shard_gops)
    return [tuple(ids[row] for row in rows) for rows in ranges]


def some_videos(seed: int, num_videos: int, mean_gops: float) -> GopCounts:
    """Names and lengths as in real sets: class folders, a few GOPs a video, now and then a long one."""
    rng = np.random.default_rng(seed)
    counts = rng.geometric(1 / mean_gops, num_videos) * np.where(rng.random(num_videos) < 0.01, 50, 1)
    return {f"class{rng.integers(20):02}/v_{i:05}_{rng.integers(1 << 30)}": int(n) for i, n in enumerate(counts)}


GENERATED = (st.integers(0, 2**32 - 1), st.integers(0, 800), st.sampled_from([1.0, 4.0, 15.0, 25.0]))
SHARD_GOPS = st.sampled_from([16, 64, 256])


@given(*GENERATED, SHARD_GOPS)
@example(0, 0, 4.0, 256)
@example(0, 1, 4.0, 256)
def test_every_video_lies_in_one_shard_in_order(seed: int, num: int, mean_gops: float, shard_gops: int) -> None:
    videos = some_videos(seed, num, mean_gops)
    shards = shards_of(videos, shard_gops)
    assert [i for shard in shards for i in shard] == sorted(videos)
    assert all(shards)


@given(*GENERATED, SHARD_GOPS)
def test_a_shard_stays_within_the_limit_unless_one_video_is_larger(
    seed: int, num: int, mean_gops: float, shard_gops: int
) -> None:
    videos = some_videos(seed, num, mean_gops)
    for shard in shards_of(videos, shard_gops):
        assert len(shard) == 1 or sum(videos[i] for i in shard) <= LIMIT_SHARDS * shard_gops


@given(*GENERATED, SHARD_GOPS, st.data())
def test_one_video_more_or_less_touches_its_shard_and_at_most_a_neighbour(
    seed: int, num: int, mean_gops: float, shard_gops: int, data: st.DataObject
) -> None:
    videos = some_videos(seed, num, mean_gops)
    new_id = f"class{data.draw(st.integers(0, 20)):02}/w_{data.draw(st.integers(0, 99999)):05}"
    more = {**videos, new_id: data.draw(st.integers(1, 60))}
    before, after = set(shards_of(videos, shard_gops)), set(shards_of(more, shard_gops))
    assert len(before - after) <= MAX_CHANGED
    assert len(after - before) <= MAX_CHANGED
    assert any(new_id in shard for shard in after - before)


def test_removing_any_single_video_touches_its_shard_and_at_most_a_neighbour() -> None:
    videos = some_videos(7, 300, 15.0)
    everything = set(shards_of(videos, 64))
    assert len(everything) > 20
    for gone in videos:
        rest = set(shards_of({i: n for i, n in videos.items() if i != gone}, 64))
        assert len(everything - rest) <= MAX_CHANGED
        assert len(rest - everything) <= MAX_CHANGED


def test_shards_have_the_wished_size_on_average() -> None:
    for mean_gops in (1.0, 4.0, 15.0):
        videos = some_videos(1, 20_000, mean_gops)
        mean = sum(videos.values()) / len(shards_of(videos, 256))
        assert 0.8 * 256 < mean < 1.5 * 256, mean_gops


def test_a_video_of_a_whole_shard_ends_its_shard() -> None:
    videos = {"a": 1, "b": 16, "c": 1, "d": 400}
    ends = {shard[-1] for shard in shards_of(videos, 16)}
    assert {"b", "d"} <= ends


def test_the_place_does_not_depend_on_what_comes_later() -> None:
    videos = some_videos(3, 400, 15.0)
    ids = sorted(videos)
    half = {i: videos[i] for i in ids[:200]}
    assert shards_of(half, 64)[:-1] == shards_of(videos, 64)[: len(shards_of(half, 64)) - 1]
