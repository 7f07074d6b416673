"""What is in a folder of encoded videos or a store, at a glance."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_core.store.index import INDEX
from mfcd_prep.manifest import MANIFEST_NAME, read_manifest

if TYPE_CHECKING:
    from pathlib import Path


def describe(folder: Path) -> dict[str, Any]:
    """Facts of an encoded folder or a store, plain values. Raises UsageError where it is neither."""
    if (folder / INDEX).exists():
        return _describe_store(Store(folder))
    if (folder / MANIFEST_NAME).exists():
        return _describe_encoded(folder)
    raise UsageError(
        f"{folder} has neither {INDEX} nor {MANIFEST_NAME}: expected a store or a folder of encoded videos"
    )


def _describe_encoded(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    good = [video for video in manifest.videos if video.status == "ok"]
    return {
        "kind": "encoded videos",
        "videos": len(good),
        "failed": len(manifest.videos) - len(good),
        "damaged": sum(video.damage is not None for video in good),
        "gops": sum(video.num_gops or 0 for video in good),
        "frames_decoded": sum(video.num_frames_decoded or 0 for video in good),
        "frames": sum(video.num_frames or 0 for video in good),
        "bytes": sum(video.bytes or 0 for video in good),
        "classes": dict(sorted(Counter(video.label or "(none)" for video in good).items())),
        "settings": dict(manifest.settings),
    }


def _describe_store(store: Store) -> dict[str, Any]:
    num_gops = int(store.videos.num_gops.sum())
    num_bytes = sum(shard.num_bytes for shard in store.shards)
    labels = store.videos.labels
    places = store.places
    chunk_bytes = places["sizes"].mean(0).round().astype(int).tolist() if num_gops else []
    names = [array.name for array in store.settings.stored_arrays()]
    return {
        "kind": "store",
        "videos": len(store.videos),
        "gops": num_gops,
        "real_frames": int(store.videos.num_frames.sum()),
        "shards": len(store.shards),
        "bytes": num_bytes,
        "bytes_per_gop": round(num_bytes / max(num_gops, 1)),
        "bytes_per_gop_by_array": dict(zip(names, chunk_bytes, strict=False)),
        "classes": {name: int((labels == row).sum()) for row, name in enumerate(store.classes)},
        "unlabelled": int(np.sum(labels < 0)),
        "splits": {name: {role: len(rows) for role, rows in roles.items()} for name, roles in store.splits.items()},
        "settings": store.settings.to_dict(),
        "versions": dict(store.versions),
    }
