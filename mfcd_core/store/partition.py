"""Which video goes into which shard (DESIGN 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT_SHARDS = 8


def partition(ids: Sequence[str], num_gops: Sequence[int], shard_gops: int) -> list[range]:
    """Rows of `ids` (sorted) that form each shard, about `shard_gops` GOPs each.

    A shard ends after a video whose id's hash, modulo `shard_gops`, is below the video's own GOP count, so that ends
    depend on single videos: one video more or less touches its own shard and at most a neighbour. A run without an
    end is cut at `LIMIT_SHARDS` times `shard_gops`.
    """
    shards, start, gops = [], 0, 0
    for row, (video_id, count) in enumerate(zip(ids, num_gops, strict=True)):
        if gops and gops + count > LIMIT_SHARDS * shard_gops:
            shards.append(range(start, row))
            start, gops = row, 0
        gops += count
        if xxhash.xxh3_64_intdigest(video_id.encode()) % shard_gops < count:
            shards.append(range(start, row + 1))
            start, gops = row + 1, 0
    if start < len(ids):
        shards.append(range(start, len(ids)))
    return shards
