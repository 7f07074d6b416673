"""`--stage` of training and evaluation: the same results, from copies alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from staging import OWN_MOUNTS, copies_in, only_folder, require_own_mounts
from tiny_runs import run_command
from training import is_same, last_line, train, weights_of

from mfcd_train.evaluate import main as evaluate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mfcd_core.store import Store


def test_training_on_copies_alone_learns_the_same(
    tiny_store: Path, teacher_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    """The second run has no shard but the copies that the first one made."""
    folder = shutil.copytree(tiny_store, tmp_path / "store")
    first = train(folder, teacher_recipe, tmp_path / "one", "--stage", tmp_path / "local", "--stage-limit", "1GB")
    assert first.status == 0
    assert "--stage: 3 of 3 shards" in first.err
    for path in folder.glob("*.h5"):
        path.unlink()
    assert train(folder, teacher_recipe, tmp_path / "two", "--stage", tmp_path / "local").status == 0
    assert is_same(weights_of(tmp_path / "one"), weights_of(teacher_run))
    assert is_same(weights_of(tmp_path / "two"), weights_of(teacher_run))


def test_evaluation_needs_the_shards_of_test_videos_alone(tiny_store: Path, teacher_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(teacher_run, tmp_path / "run")
    arguments = (run, tiny_store, "--clips", 2, "--device", "cpu")
    done = run_command(evaluate, *arguments, "--stage", tmp_path / "local", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out) == json.loads(run_command(evaluate, *arguments, "--json").out)
    assert copies_in(only_folder(tmp_path / "local")) == ["shard-00001.h5", "shard-00002.h5"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stage-limit", "200GB"], "'--stage-limit': expected with --stage DIR alone"),
        (["--stage-limit", "200Gb", "--stage", "local"], "'200Gb', expected bytes with a unit such as KB, KiB, MB"),
        (["--stage", "local", "--stage-limit", "much"], "'much', expected bytes"),
        (["--stage", "file"], "--stage file: Not a directory; expected a folder on a local disk"),
    ],
)
def test_mistakes_are_one_line(
    tiny_store: Path,
    teacher_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[Any],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert words in last_line(train(tiny_store, teacher_recipe, tmp_path / "run", *arguments))
    assert not (tmp_path / "local").exists()


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("200GB", 200 * 10**9), ("1.5TB", 1.5 * 10**12), ("64 KiB", 65536), ("2MiB", 2**21), ("1000", 1000)],
)
def test_sizes_have_units(
    tiny_store: Path,
    teacher_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    num_bytes: int,
) -> None:
    asked = []

    @contextmanager
    def noted(store: Store, *_videos: object, stage_limit: int, **_: object) -> Iterator[Store]:
        asked.append(stage_limit)
        yield store

    monkeypatch.setattr("mfcd_train.evaluate.staged", noted)
    run = shutil.copytree(teacher_run, tmp_path / "run")
    arguments = (run, tiny_store, "--clips", 1, "--device", "cpu", "--stage-limit", text, "--stage", tmp_path)
    assert run_command(evaluate, *arguments).status == 0
    assert asked == [num_bytes]


KILL = """
set -eu
mount -t tmpfs none /dev/shm
checkpoint="$1/checkpoint.pt"; shift
setsid "$@" 2> /dev/null & trainer=$!
until [ -e "$checkpoint" ]; do kill -0 $trainer; sleep 0.05; done
kill -KILL $trainer; wait $trainer || echo ended with $?
for i in $(seq 100); do pgrep -s $trainer > /dev/null || break; sleep 0.1; done
for left in $(pgrep -s $trainer) $(ls -A /dev/shm); do echo left $left; done
"$@"
"""


@pytest.mark.slow
def test_a_killed_training_leaves_nothing_that_the_next_start_meets(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    """In a /dev/shm of its own: no shared memory and no process is left, and copies are used again."""
    require_own_mounts()
    changes = ("optim.epochs=15", "run.checkpoint_seconds=0", "run.report=false", "run.tensorboard=false")
    settings = [word for change in changes for word in ("--set", change)]
    program = (sys.executable, "-c", "from mfcd_train.train import main; main()")
    command = [*program, tiny_store, "--recipe", teacher_recipe, "--out", tmp_path / "run", "--device", "cpu"]
    killing = [*OWN_MOUNTS, "sh", "-c", KILL, "sh", tmp_path / "run", *command, *settings, "--stage", "local"]
    done = subprocess.run(killing, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["ended with 137"]
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    assert "--stage: 3 of 3 shards" in done.stderr
    assert copies_in(only_folder(tmp_path / "local")) == [f"shard-0000{number}.h5" for number in range(3)]
