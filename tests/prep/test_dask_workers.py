"""The engine on a real Dask cluster: scheduler and workers are processes of their own, on loopback."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cluster import dask_cluster
from encoding import SMALL, outputs
from tiny_videos import cut_frames, write_video

from mfcd_core.errors import MfcdError, UsageError, VersionsError
from mfcd_prep import dask_workers, extract
from mfcd_prep.dask_workers import OnDask
from mfcd_prep.encode import encode_videos
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.jobs import Done, Lost, run_tasks
from mfcd_prep.repair import repair_store
from mfcd_prep.versions import library_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cluster import Cluster

    from mfcd_prep.jobs import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),  # distributed's own
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three workers, each under its nanny, which starts it again."""
    (tmp_path / "dask").mkdir()
    with dask_cluster(tmp_path / "dask", 3, nanny=True) as cluster:
        yield cluster


def outcomes_of(address: str, tasks: Iterable[int], worker: Callable[[int], int]) -> dict[int, Outcome[int]]:
    outcomes: dict[int, Outcome[int]] = {}
    workers = OnDask.connected(address)
    with closing(workers.client):
        run_tasks(tasks, worker, workers, outcomes.__setitem__)
    return outcomes


def test_a_worker_killed_in_the_middle_costs_nothing(cluster: Cluster, tmp_path: Path) -> None:
    def worker(task: int) -> int:
        (tmp_path / f"{task}.begun").touch()
        time.sleep(0.2)
        return task * task

    def tasks() -> Iterator[int]:
        for task in range(30):
            if task == 20:
                cluster.kill(1)
            yield task

    assert outcomes_of(cluster.address, tasks(), worker) == {task: Done(task * task) for task in range(30)}


def test_a_task_that_kills_every_worker_it_meets_is_listed_and_the_run_ends(cluster: Cluster) -> None:
    def worker(task: int) -> int:
        time.sleep(0.05)
        if task == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    outcomes = outcomes_of(cluster.address, range(30), worker)
    lost = outcomes.pop(7)
    assert isinstance(lost, Lost)
    assert lost.problem == "killed"
    assert outcomes == {task: Done(task) for task in range(30) if task != 7}


def test_a_cluster_makes_the_same_bytes_in_folders_named_from_here(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # its workers began elsewhere
    for number in range(8):
        write_video(tmp_path / "s" / f"{number}.mp4", cut_frames(25))
    encode_videos(tmp_path / "s", tmp_path / "here", SMALL)
    extract_videos(tmp_path / "here", tmp_path / "store here", ExtractOptions(shard_gops=4))
    workers = OnDask.connected(cluster.address)
    with closing(workers.client):
        summary = encode_videos(Path("s"), Path("there"), SMALL, workers=workers)
        extract_videos(Path("there"), Path("store there"), ExtractOptions(shard_gops=4), workers=workers)
    assert summary.num_encoded == 8
    assert outputs(tmp_path / "there") == outputs(tmp_path / "here")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*") if path.is_file()}
        for name in ("store here", "store there")
    ]
    assert files[0] == files[1]


def test_a_cluster_mends_shards_and_refuses_to_join_other_versions(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's versions are others here: those of the cluster's processes are the real ones."""
    for number in range(8):
        write_video(tmp_path / "s" / f"{number}.mp4", cut_frames(13))
    encode_videos(tmp_path / "s", tmp_path / "e", SMALL)
    options, store = ExtractOptions(shard_gops=1), tmp_path / "store"
    extract_videos(tmp_path / "e", store, options)
    shards = {path.name: path.read_bytes() for path in store.glob("*.h5")}
    for name in shards:
        (store / name).unlink()
    workers = OnDask.connected(cluster.address)
    with closing(workers.client):
        assert repair_store(store, tmp_path / "e", workers).mended == tuple(sorted(shards))
        assert {path.name: path.read_bytes() for path in store.glob("*.h5")} == shards
        monkeypatch.setattr(extract, "library_versions", lambda _: {**library_versions("pyav"), "h5py": "2.0.0"})
        with pytest.raises(VersionsError, match=r"a worker on .* has h5py .*, this run has h5py 2\.0\.0: install"):
            extract_videos(tmp_path / "e", tmp_path / "other", options, workers=workers)
    assert not list((tmp_path / "other").rglob("*.h5"))


def test_a_cluster_without_workers_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_workers, "NO_WORKER_SECONDS", 1.0)
    with (
        dask_cluster(tmp_path, 0, nanny=True) as cluster,
        pytest.raises(MfcdError, match="has had no worker for 1 s: start some, then run again"),
    ):
        outcomes_of(cluster.address, range(3), lambda task: task)


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "CONNECT_SECONDS", 1)
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at .*expected an address such as tcp://"):
        OnDask.connected("tcp://127.0.0.1:9")
