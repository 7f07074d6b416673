"""A real Dask cluster on loopback: a scheduler and workers as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DASK = (sys.executable, "-m", "dask")
START_SECONDS = 60


@dataclass
class Cluster:
    """address: of the scheduler. workers: one process each; without a nanny one that dies stays dead."""

    address: str
    workers: list[subprocess.Popen[bytes]]

    def kill(self, number: int) -> None:
        """SIGKILL a worker and all that it started."""
        os.killpg(self.workers[number].pid, signal.SIGKILL)


@contextmanager
def dask_cluster(folder: Path, num_workers: int, *, nanny: bool) -> Iterator[Cluster]:
    """Start a scheduler and workers of one thread each; all of them end with the block."""
    file = folder / "scheduler.json"
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        options = ("--scheduler-file", str(file), "--no-dashboard")
        log = (folder / f"dask-{len(started)}.log").open("wb")
        process = subprocess.Popen((*DASK, *arguments, *options), stdout=log, stderr=log, start_new_session=True)
        log.close()
        started.append(process)
        return process

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        workers = [
            start("worker", "--nthreads", "1", "--host", "127.0.0.1", "--nanny" if nanny else "--no-nanny",
                  "--local-directory", str(folder))
            for _ in range(num_workers)
        ]  # fmt: skip
        yield Cluster(_address(file), workers)
    finally:
        for process in reversed(started):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(file: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if file.exists() and file.stat().st_size:
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.05)
    raise TimeoutError("no scheduler")
