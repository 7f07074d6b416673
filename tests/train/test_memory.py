"""Memory of those who read, beyond their imports, at the size that is promised: batches of 32, frames of 256x256."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import StoredGop, random_gop, write_store

from mfcd_core.store.settings import StoreSettings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

MB = 1_000_000
LIMIT_BYTES, SLOPE_BYTES = 200 * MB, 2 * MB
NUM_BATCHES = 24

READ = """
import multiprocessing, re, sys
from pathlib import Path
import numpy as np
import torch
from torch.utils.data import DataLoader
from mfcd_core.store import Store
from mfcd_train.batch_dataset import BatchDataset
from mfcd_train.dataset import Draws
from mfcd_train.loader import iter_batches

def memory_bytes(kind, process="self"):
    return 1024 * int(re.search(rf"{kind}:\\s+(\\d+) kB", Path(f"/proc/{process}/status").read_text())[1])

def draw(store, num_batches):
    n = 32 * num_batches
    gop, centre = np.arange(n) % len(store.places), np.zeros(n, np.float32)
    return Draws(np.searchsorted(store.videos.first_gop, gop, side="right") - 1, gop, centre, centre, gop > n, centre)

def read(store, draws, with_motion):
    for batch in iter_batches(store, draws, 32, with_motion=with_motion, num_threads=2):
        yield memory_bytes("VmRSS")

def read_in_workers(store, draws, with_motion):
    dataset = BatchDataset(store, draws, 32, with_motion=with_motion)
    options = {"num_workers": 2, "prefetch_factor": 2, "multiprocessing_context": "spawn"}
    for batch in DataLoader(dataset, batch_size=None, **options):
        yield max(memory_bytes("VmHWM", child.pid) for child in multiprocessing.active_children())

if __name__ == "__main__":
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the imports does not count
    before = memory_bytes("VmRSS")
    store = Store(sys.argv[1])
    how, with_motion = {"threads": read, "workers": read_in_workers}[sys.argv[2]], sys.argv[3] == "motion"
    taken = list(how(store, draw(store, int(sys.argv[4])), with_motion))
    peak = memory_bytes("VmHWM") if how is read else max(taken)
    print(peak - before, np.median(taken[-4:]) - np.median(taken[len(taken) // 2 :][:4]))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """I-frames of noise, still afterwards: a GOP takes as many bytes as a real one."""
    settings, random = StoreSettings(256, 256), np.random.default_rng(0)
    gop = random_gop(settings, random)
    still = {name: plane if name.startswith("iframe") else np.zeros_like(plane) for name, plane in gop.arrays.items()}
    return write_store(tmp_path_factory.mktemp("memory") / "store", settings, {"v": [StoredGop(still, 12)] * 40})


def memory_of(store: Path, script: Path, how: str, what: str, cache: Path | None = None) -> tuple[int, float]:
    """Bytes at the peak, beyond imports, and by how much they grow in the second half of an epoch."""
    script.write_text(READ)
    environment = os.environ | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    command = [sys.executable, script, store, how, what, str(NUM_BATCHES)]
    peak, growth = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout.split()
    return int(peak), float(growth)


@pytest.mark.parametrize(
    ("how", "what"),
    [("threads", "motion"), ("threads", "plain"), pytest.param("workers", "motion", marks=pytest.mark.slow)],
)
def test_a_process_that_reads_stays_below_the_limit(large: Path, tmp_path: Path, how: str, what: str) -> None:
    """Two batches ahead, and for threads the one in use with them."""
    peak, growth = memory_of(large, tmp_path / "read.py", how, what)
    assert peak < LIMIT_BYTES
    assert growth < SLOPE_BYTES


@pytest.mark.slow
def test_the_first_run_of_an_installation_takes_no_more(large: Path, tmp_path: Path) -> None:
    """Kernels are compiled by a process that ends; what it leaves in the cache is what the second run finds."""
    cache = tmp_path / "cache"
    first, second = (memory_of(large, tmp_path / "read.py", "threads", "motion", cache)[0] for _ in range(2))
    assert first < LIMIT_BYTES
    assert abs(first - second) < 5 * MB
    assert list(cache.rglob("unpack_kernels.unpack_chunks-*.nbi"))
