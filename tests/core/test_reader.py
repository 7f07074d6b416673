"""Reading: the same GOPs from any thread or process, without HDF5, numba or torch, and no damage unnoticed."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from corrupt import write_flipped

from mfcd_core.errors import ChecksumError, StoreError, UsageError
from mfcd_core.store import Store
from mfcd_core.store.packing import unpack_gop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synthetic import StoredGop

    from mfcd_core.gop import Gop

    VideosOfStore = dict[str, list[StoredGop]]

STEP = 2  # residual step of the store


def is_same(gop: Gop, stored: StoredGop) -> bool:
    arrays = stored.arrays
    planes = all(
        np.array_equal(gop.iframe[name], arrays[f"iframe/{name}"])
        and np.array_equal(gop.residual[name], STEP * arrays[f"residual/{name}"].astype(int))
        for name in gop.iframe
    )
    return planes and np.array_equal(gop.motion, arrays["motion"]) and gop.real_frames == stored.real_frames


def run_script(script: str, *arguments: Path) -> str:
    """Run Python code in a process of its own; returns what it prints."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


def test_every_gop_comes_back(store_folder: Path, videos: VideosOfStore) -> None:
    store = Store(store_folder)
    assert sorted(store.videos.ids.tolist()) == sorted(videos)
    for video_id, gops in videos.items():
        for gop_index, stored in enumerate(gops):
            gop = store.read_gop(video_id, gop_index)
            assert is_same(gop, stored)
            assert all(plane.dtype == np.int16 for plane in gop.residual.values())


def test_facts_of_a_store(store_folder: Path) -> None:
    store = Store(str(store_folder))
    assert repr(store) == f"Store({store_folder}: 5 videos, 9 GOPs of 32x16, 2 classes)"
    assert store.classes == ("jump", "walk")
    assert store.splits["first"]["test"].tolist() == [3]
    assert [store.shard_of(row) for row in range(5)] == [f"shard-0000{n}.h5" for n in (0, 0, 1, 1, 2)]
    assert store.num_real_frames(4, 0) == 3
    assert store.num_real_frames(3, 2) == 4


def test_an_unknown_video_is_named(store_folder: Path) -> None:
    with pytest.raises(StoreError, match="no video 'walk/w' in the store: expected one of its 5 ids"):
        Store(store_folder).read_gop("walk/w", 0)


@pytest.mark.parametrize("gop_index", [-1, 2, 1 << 40])
def test_a_gop_out_of_range_is_named(store_folder: Path, gop_index: int) -> None:
    with pytest.raises(UsageError, match=f"GOP {gop_index} of 'walk/v': expected 0 to 1"):
        Store(store_folder).read_gop("walk/v", gop_index)


def test_motion_left_out_is_not_even_read(store_folder: Path, videos: VideosOfStore) -> None:
    """A shard that ends where the last motion begins still gives everything else."""
    store = Store(store_folder)
    row = int(store.videos.first_gop[store.videos.row_of("y")])
    place = store.places[row]
    os.truncate(store_folder / "shard-00002.h5", int(place["offset"]) + int(place["sizes"][:-1].sum()))
    arrays = [array for array in store.settings.stored_arrays() if array.name != "motion"]
    wanted = {array.name: array.empty_chunk() for array in arrays}
    store.read_chunks(row, wanted)
    for array in arrays:
        assert np.array_equal(unpack_gop(array, wanted[array.name]), videos["y"][0].arrays[array.name]), array.name
    with pytest.raises(ChecksumError, match=r"shard-00002\.h5: GOP 0 of 'y': \d+ bytes, expected \d+"):
        store.read_gop("y", 0)


def test_any_part_of_a_gop_can_be_read(store_folder: Path, videos: VideosOfStore) -> None:
    store = Store(store_folder)
    for array in store.settings.stored_arrays():
        wanted = array.empty_chunk()
        store.read_chunks(1, {array.name: wanted})
        written = videos["jump/a"][1].arrays[array.name]
        assert np.array_equal(unpack_gop(array, wanted), written.astype(array.read_dtype))


def test_a_missing_shard_is_named(store_folder: Path) -> None:
    (store_folder / "shard-00001.h5").unlink()
    store = Store(store_folder)
    assert store.read_gop("y", 0).real_frames == 3
    with pytest.raises(StoreError, match=r"shard-00001\.h5: GOP 1 of 'walk/v': cannot be read"):
        store.read_gop("walk/v", 1)


def test_a_flipped_bit_in_any_chunk_is_refused(store_folder: Path) -> None:
    """Every one of the header, which zstd itself does not check (it ignores some), and a few of the rest."""
    store = Store(store_folder)
    path = store_folder / "shard-00000.h5"
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    start = int(store.places[0]["offset"])
    for name, size in zip(
        [a.name for a in store.settings.stored_arrays()], store.places[0]["sizes"].tolist(), strict=True
    ):
        behind = [(place, rng.integers(8)) for place in [*rng.integers(start + 18, start + size, 8), start + size - 1]]
        for place, bit in [*np.ndindex(18, 8), *((place - start, bit) for place, bit in behind)]:
            write_flipped(path, data, start + int(place), int(bit))
            with pytest.raises(ChecksumError, match=f"shard-00000.h5: GOP 0 of 'jump/a': {name} is damaged"):
                store.read_gop("jump/a", 0)
        start += size


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_chunk_of_another_size_is_refused(store_folder: Path, extra: int) -> None:
    store = Store(store_folder)
    chunk = store.settings.stored_arrays()[0]
    wanted = {chunk.name: np.zeros((*chunk.chunk_shape[:-1], chunk.chunk_shape[-1] + extra), np.uint8)}
    with pytest.raises(ChecksumError, match="has another size"):
        store.read_chunks(0, wanted)


def test_a_shard_replaced_while_open_still_reads(store_folder: Path, videos: VideosOfStore) -> None:
    """Repair renames a file of the same bytes into place."""
    store = Store(store_folder)
    path = store_folder / "shard-00001.h5"
    assert is_same(store.read_gop("walk/v", 0), videos["walk/v"][0])
    shutil.copy(path, store_folder / "new")
    (store_folder / "new").replace(path)
    assert is_same(store.read_gop("walk/v", 1), videos["walk/v"][1])
    assert is_same(Store(store_folder).read_gop("walk/v", 1), videos["walk/v"][1])


def open_links() -> Iterator[Path]:
    """What the descriptors of this process point to."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            yield descriptor.readlink()


def test_no_more_files_stay_open_than_the_limit(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfcd_core.store.files.MAX_OPEN_FILES", 2)

    def num_open() -> int:
        return sum(link.parent == store_folder and link.suffix == ".h5" for link in open_links())

    store = Store(store_folder)
    for video_id in store.videos.ids:
        store.read_gop(video_id, 0)
        assert num_open() <= 2
    del store
    assert num_open() == 0


@pytest.mark.slow
@pytest.mark.parametrize("max_open_files", [1, 128])
def test_threads_share_a_store(
    store_folder: Path, videos: VideosOfStore, monkeypatch: pytest.MonkeyPatch, max_open_files: int
) -> None:
    """Eight threads, with a limit that closes files under each other."""
    monkeypatch.setattr("mfcd_core.store.files.MAX_OPEN_FILES", max_open_files)
    store = Store(store_folder)
    gops = [(video_id, n) for video_id in videos for n in range(len(videos[video_id]))]

    def read_all(seed: int) -> bool:
        order = np.random.default_rng(seed).permutation(60 * gops)
        return all(is_same(store.read_gop(i, int(n)), videos[i][int(n)]) for i, n in order)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read_all, range(8)))
    finally:
        sys.setswitchinterval(interval)


def test_a_store_pickles(store_folder: Path, videos: VideosOfStore) -> None:
    store = Store(store_folder)
    store.read_gop("y", 0)
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301, our own bytes
    assert is_same(copy.read_gop("y", 0), videos["y"][0])


def test_a_spawned_process_reads(store_folder: Path, videos: VideosOfStore) -> None:
    store = Store(store_folder)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert is_same(pool.submit(store.read_gop, "walk/v", 1).result(), videos["walk/v"][1])


FORK = """
import os, sys, threading, warnings
from mfcd_core.store import Store
warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what is tried
sys.setswitchinterval(1e-6)
store = Store(sys.argv[1])
expected = [store.read_gop("walk/v", n).motion.sum() for n in range(2)]
done = False

def read_on():
    while not done:
        store.read_gop("jump/a", 0)

def child():
    failures, start = [], threading.Barrier(8)
    def read(n):
        start.wait()
        if store.read_gop("walk/v", n % 2).motion.sum() != expected[n % 2]:
            failures.append(n)
    threading.excepthook = lambda problem: failures.append(problem)
    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    os._exit(bool(failures))

parent = threading.Thread(target=read_on)
statuses = []
for fork in range(80):
    if fork == 50:
        parent.start()
    if not (pid := os.fork()):
        child()
    statuses.append(os.waitpid(pid, 0)[1])
done = True
parent.join()
print(sum(map(bool, statuses)))
"""


def test_forked_processes_read_while_their_parent_reads(store_folder: Path) -> None:
    assert run_script(FORK, store_folder) == "0"


IMPORTS = """
import sys
from mfcd_core.store import Store
Store(sys.argv[1]).read_gop("y", 0)
print(*sorted({"h5py", "hdf5plugin", "numba", "torch", "av"} & set(sys.modules)))
"""


def test_reading_imports_neither_hdf5_nor_numba_nor_torch(store_folder: Path) -> None:
    assert run_script(IMPORTS, store_folder) == ""
