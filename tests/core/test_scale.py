"""An index as large as that of Kinetics: opened at once, in memory that all processes of a node share."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mfcd_core.store.index import GOPS, ShardEntry, Shards, StoreIndex, write_index
from mfcd_core.store.places import gop_place_dtype
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.videos import Videos

if TYPE_CHECKING:
    from pathlib import Path

MB = 1_000_000
GOPS_A_VIDEO = 25
START_BYTES, LIMIT_BYTES = 2 * MB, 20 * MB  # beyond imports: of any store, and of 6 million GOPs

OPEN = """
import re, sys, time
from pathlib import Path
from mfcd_core.store import Store

def memory_bytes(kinds):
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(map(int, re.findall(rf"^(?:{kinds}):\\s+(\\d+) kB", rollup, re.MULTILINE)))

PRIVATE, OWN = "Private_Clean|Private_Dirty", "Anonymous"  # a file's pages are private while nobody else maps them
start, private, own = time.perf_counter(), memory_bytes(PRIVATE), memory_bytes(OWN)
store = Store(sys.argv[1])
seconds, opened = time.perf_counter() - start, memory_bytes(PRIVATE) - private
total = int(store.places["sizes"].sum())  # touches every page of gops.npy
print(len(store.places), opened, memory_bytes(OWN) - own, total, seconds)
"""


def write_large_index(folder: Path, num_videos: int, num_shards: int) -> Path:
    """An index without shards: videos of 25 GOPs in shards of the same number of videos, more or less."""
    folder.mkdir()
    settings, num_gops = StoreSettings(256, 256), num_videos * GOPS_A_VIDEO
    places = np.zeros(num_gops, gop_place_dtype(settings))
    places["shard"] = np.arange(num_gops) * num_shards // num_gops
    places["sizes"] = 1
    np.save(folder / GOPS, places)
    counts = np.full(num_videos, GOPS_A_VIDEO)
    ids = np.array([f"class {i % 400:03}/video_{i:012}_000010_000020" for i in range(num_videos)])
    labels = np.zeros(num_videos, np.int32)
    videos = Videos.collect(np.sort(ids), labels, counts, 12 * counts)
    shards = Shards.collect([ShardEntry(f"shard-{i:05}.h5", 1 << 25, "0" * 32, 1, 1) for i in range(num_shards)])
    roles = {"train": np.arange(0, num_videos, 2), "test": np.arange(1, num_videos, 2)}
    write_index(folder, StoreIndex(settings, ("class",), shards, videos, {"first": roles}, {}))
    return folder


def open_elsewhere(folder: Path) -> tuple[int, int, int, int, float]:
    """Open in a process of its own, then look at every place of a GOP.

    Returns the number of GOPs, private bytes once open, bytes that no other process can share at the end, the sum of
    all sizes, and the seconds that opening took.
    """
    words = subprocess.run([sys.executable, "-c", OPEN, folder], check=True, capture_output=True, text=True).stdout
    num_gops, opened, own, total, seconds = words.split()
    return int(num_gops), int(opened), int(own), int(total), float(seconds)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("num_videos", "num_shards"), [(24_000, 2_300), pytest.param(240_000, 23_000, marks=pytest.mark.slow)]
)
def test_places_of_gops_are_no_memory_of_a_process(tmp_path: Path, num_videos: int, num_shards: int) -> None:
    folder = write_large_index(tmp_path / "store", num_videos, num_shards)
    num_gops, opened, own, total, _ = open_elsewhere(folder)
    assert num_gops == num_videos * GOPS_A_VIDEO
    assert total == num_gops * 5
    assert max(opened, own) < START_BYTES + LIMIT_BYTES * num_videos // 240_000
