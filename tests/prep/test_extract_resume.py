"""Extract again: after a kill at any moment, after changes, after damage, and with nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stores import OPTIONS, files_of, journals, mtimes_of

from mfcd_core.store import Store
from mfcd_core.store.index import INDEX, read_index
from mfcd_prep.extract import ExtractOptions, extract_videos, plan_extract

if TYPE_CHECKING:
    from collections.abc import Callable

MFCD_PREP = Path(sys.executable).with_name("mfcd-prep")
SHARDS = "shard-*.h5"
NO_PROCESS = str(2**22 + 1)


def identities(folder: Path) -> set[tuple[int, int]]:
    """Which files the shards of a folder are, whatever their names; two may have the same time."""
    return {(path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.h5")}


def waiting(store: Path) -> set[tuple[int, int]]:
    """The shards that are finished and wait for their places."""
    return identities(store / ".mfcd" / "shards")


# A kill


@pytest.fixture
def many(foreign: Path) -> Path:
    """Enough shards that a kill falls between two of them."""
    for number in range(12, 96):
        shutil.copy2(foreign / "run" / "03.mp4", foreign / "run" / f"{number:02}.mp4")
    return foreign


@pytest.mark.slow
@pytest.mark.parametrize(("num_finished", "jobs"), [(1, 1), (1, 2), (30, 1), (30, 2)])
def test_kill_9_loses_no_finished_shard(many: Path, tmp_path: Path, num_finished: int, jobs: int) -> None:
    store = tmp_path / "store"
    command = [MFCD_PREP, "extract", many, store, "--shard-gops", "1", "--jobs", str(jobs)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(waiting(store)) < num_finished:
        assert process.poll() is None, "it ended on its own"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()  # SIGKILL; workers see it within a second, and may finish a shard more
    process.wait()
    before = waiting(store)
    assert len(before) < 96
    assert not (store / INDEX).exists()
    recorded = sum(path.read_bytes().count(b"\n") for path in journals(store))
    assert recorded >= len(before) - 2 * jobs
    kept = len(plan_extract(many, store, ExtractOptions(shard_gops=1)).kept)
    assert kept >= recorded - 1

    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert len(before & identities(store)) >= kept
    assert list((store / ".mfcd" / "tmp").iterdir()) == []
    extract_videos(many, tmp_path / "undisturbed", ExtractOptions(shard_gops=1))
    assert files_of(store) == files_of(tmp_path / "undisturbed")


@pytest.fixture
def snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[Path]]:
    """Arms a camera: before every fsync and rename the store is copied, as a kill in that moment would leave it."""

    def arm(store: Path) -> list[Path]:
        taken: list[Path] = []

        def photographed(step: Callable[..., object]) -> Callable[..., object]:
            def stand_in(*arguments: object, **options: object) -> object:
                taken.append(shutil.copytree(store, tmp_path / "snapshots" / str(len(taken)) / "store"))
                for path in taken[-1].rglob(f"*{os.getpid()}*"):  # as another process's, which is dead
                    os.rename(path, str(path).replace(str(os.getpid()), NO_PROCESS))  # noqa: PTH104, Path's is watched
                return step(*arguments, **options)

            return stand_in

        for owner, name in [(os, "fsync"), (Path, "replace"), (Path, "rename"), (Path, "unlink")]:
            monkeypatch.setattr(owner, name, photographed(getattr(owner, name)))
        return taken

    return arm


@pytest.mark.slow
def test_a_kill_before_any_step_on_disk_changes_nothing_of_the_result(
    foreign: Path,
    tmp_path: Path,
    snapshots: Callable[[Path], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract_videos(foreign / "run", tmp_path / "undisturbed", OPTIONS)
    (tmp_path / "store").mkdir()
    taken = snapshots(tmp_path / "store")
    num_shards = extract_videos(foreign / "run", tmp_path / "store", OPTIONS).num_shards_made
    monkeypatch.undo()
    assert num_shards >= 2
    assert len(taken) >= 4 * num_shards + 9
    for store in taken:
        summary = extract_videos(foreign / "run", store, OPTIONS)
        assert summary.num_shards_made + summary.num_shards_kept == num_shards
        assert files_of(store) == files_of(tmp_path / "undisturbed")
        assert list((store / ".mfcd" / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("change", ["03", "gone"])
def test_a_kill_while_shards_change_their_numbers_loses_none(
    foreign: Path,
    tmp_path: Path,
    snapshots: Callable[[Path], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    one_each = ExtractOptions(shard_gops=1)
    videos, store = foreign / "jump", tmp_path / "store"
    extract_videos(videos, store, one_each)
    if change == "gone":
        (videos / "02.mp4").unlink()
    else:
        shutil.copy(foreign / "run" / "03.mp4", videos / f"{change}.mp4")
    taken = snapshots(store)
    summary = extract_videos(videos, store, one_each)
    monkeypatch.undo()
    assert (summary.num_shards_made, summary.num_shards_kept) in {(1, 6), (0, 5)}
    for snapshot in taken:
        again = extract_videos(videos, snapshot, one_each)
        assert again.num_shards_made <= summary.num_shards_made
        assert files_of(snapshot) == files_of(store)
        assert {path.name for path in (snapshot / ".mfcd").iterdir()} == {"extract", "tmp"}


# Nothing to do, and something


def test_a_second_run_makes_nothing(foreign: Path, tmp_path: Path) -> None:
    first = extract_videos(foreign, tmp_path / "store", OPTIONS)
    before, mtimes = files_of(tmp_path / "store"), mtimes_of(tmp_path / "store")
    again = extract_videos(foreign, tmp_path / "store", OPTIONS)
    assert (again.num_shards_made, again.num_shards_kept) == (0, first.num_shards_made)
    assert (again.num_gops, again.num_bytes) == (first.num_gops, first.num_bytes)
    assert (files_of(tmp_path / "store"), mtimes_of(tmp_path / "store")) == (before, mtimes)


@pytest.mark.parametrize(
    "options",
    [
        ExtractOptions(shard_gops=6, residual_step=1),
        ExtractOptions(shard_gops=6, trace="integer"),
        ExtractOptions(shard_gops=6, pixel_format="rgb24"),
        ExtractOptions(shard_gops=6, level=5),
        ExtractOptions(shard_gops=6, tail="pad"),
    ],
    ids=lambda options: (
        f"{options.residual_step}-{options.trace}-{options.pixel_format}-{options.level}-{options.tail}"
    ),
)
def test_other_settings_make_all_again(foreign: Path, tmp_path: Path, options: ExtractOptions) -> None:
    num_shards = extract_videos(foreign / "run", tmp_path / "store", OPTIONS).num_shards_made
    summary = extract_videos(foreign / "run", tmp_path / "store", options)
    assert (summary.num_shards_made, summary.num_shards_kept) == (num_shards, 0)
    extract_videos(foreign / "run", tmp_path / "new", options)
    assert files_of(tmp_path / "store") == files_of(tmp_path / "new")


def test_a_video_that_was_encoded_anew_makes_its_shard_again(foreign: Path, tmp_path: Path) -> None:
    """Its id, its size and its number of GOPs are as before."""
    before = extract_videos(foreign, tmp_path / "store", OPTIONS)
    assert len({(foreign / name).read_bytes() for name in ("jump/00.mp4", "run/01.mp4")}) == 2  # two GOPs each
    shutil.copy(foreign / "run" / "01.mp4", foreign / "jump" / "00.mp4")
    summary = extract_videos(foreign, tmp_path / "store", OPTIONS)
    assert (summary.num_shards_made, summary.num_gops) == (1, before.num_gops)
    extract_videos(foreign, tmp_path / "new", OPTIONS)
    assert files_of(tmp_path / "store") == files_of(tmp_path / "new")


def test_the_index_is_gone_while_shards_change(foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reader takes a store for whole that is being made again."""
    extract_videos(foreign, tmp_path / "store", OPTIONS)
    old = read_index(tmp_path / "store").checksum

    def interrupted(*_: object) -> None:
        assert not (tmp_path / "store" / INDEX).exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mfcd_prep.indexing.write_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract_videos(foreign, tmp_path / "store", ExtractOptions(shard_gops=6, level=2))
    assert extract_videos(foreign, tmp_path / "store", ExtractOptions(shard_gops=6, level=2)).num_shards_made == 0
    assert Store(tmp_path / "store").checksum != old


# A dry run


def test_a_dry_run_says_what_and_changes_nothing(
    foreign: Path, tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("extract", foreign, tmp_path / "store", "--shard-gops", "6", "--jobs", "1", "--dry-run", "--json")
    assert run_command(*command) == 0
    planned = len(plan_extract(foreign, tmp_path / "store", OPTIONS).todo)
    assert f"would make {planned} shards, 0 stand" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    extract_videos(foreign, tmp_path / "store", OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/**/*")}
    assert run_command(*command) == 0
    assert f"would make 0 shards, {planned} stand" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/**/*")} == before
