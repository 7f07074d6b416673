"""Random SIGKILLs over a run and the runs that follow it: of the driver, of workers, of the tools they started."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def children(process: int) -> list[int]:
    """All that descends from a process, by /proc."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, seen = [process], []
    while found:
        for child in parents.get(found.pop(), ()):
            found.append(child)
            seen.append(child)
    return seen


def kill_somebody(driver: subprocess.Popen[bytes], rng: random.Random) -> None:
    """Half of the time the driver, else one of its processes: workers, their helpers, ffmpeg."""
    below = children(driver.pid)
    victim = driver.pid if rng.random() < 0.5 or not below else rng.choice(below)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_often(
    command: Sequence[str | Path], num_kills: int, num_recorded: Callable[[], int], num_tasks: int, seed: int
) -> None:
    """Start `command` again and again, and kill in it after a few more results each time."""
    rng = random.Random(seed)  # noqa: S311, no secret
    num_done = 0
    while num_done < num_kills:
        driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while driver.poll() is None and num_done < num_kills:
            wanted = num_recorded() + rng.randrange(4)
            while driver.poll() is None and num_recorded() < wanted:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.1)
            kill_somebody(driver, rng)
            num_done += 1
        if num_done == num_kills:
            driver.kill()
        driver.wait()
        assert num_recorded() < num_tasks, "it ended before enough kills: more tasks are needed"


def train_quietly(*arguments: str) -> None:
    """Train in this process as the command does; multiprocessing begins it here, where little is imported."""
    from mfcd_train.train import main  # noqa: PLC0415

    with Path(os.devnull).open("w") as sys.stderr:
        sys.argv = ["mfcd-train", *arguments]
        main()
