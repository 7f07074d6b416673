"""mfcd-prep repair: damaged shards come back byte for byte, or everything stays and what differs is said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import xxhash
from stores import files_of

from mfcd_core.errors import OutputError, StoreError, UsageError
from mfcd_core.store.index import GOPS, INDEX, VIDEOS
from mfcd_prep import repair as repair_module
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.extract import ExtractOptions, extract_videos, plan_extract
from mfcd_prep.repair import repair_store
from mfcd_prep.verify import verify_store
from mfcd_prep.versions import library_versions
from mfcd_prep.workers import IN_THIS_PROCESS, OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = ExtractOptions(shard_gops=1)
FIRST, SECOND = "shard-00000.h5", "shard-00001.h5"


@pytest.fixture(scope="module")
def store_once(encoded_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("repair") / "store"
    extract_videos(encoded_once, store, OPTIONS)
    return store


@pytest.fixture
def store(store_once: Path, tmp_path: Path) -> Path:
    """A copy as it comes from another machine: one video a shard, no journal."""
    return shutil.copytree(store_once, tmp_path / "store", ignore=shutil.ignore_patterns(".mfcd"))


@pytest.fixture
def repair(
    run_command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Runs `mfcd-prep repair --json` here; returns what it printed, after a look at the exit status."""
    monkeypatch.setattr("mfcd_prep.repair_cli.workers_of", lambda *_: IN_THIS_PROCESS)

    def run(*arguments: str | Path) -> dict[str, Any]:
        status = run_command("repair", *arguments, "--jobs", "1", "--json")
        summary: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert status == summary["exit_status"] == (1 if summary["left"] else 0)
        return summary

    return run


def flip(path: Path) -> None:
    """One bit, of a chunk; the size and the time of the file stay, as on a disk that forgets."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-2000] ^= 16
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def swap_with_second(path: Path) -> None:
    shutil.copy(path.with_name(SECOND), path)


# Mended


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink, swap_with_second], ids=lambda damage: damage.__name__)
def test_a_damaged_shard_comes_back_as_it_was(
    store: Path,
    store_once: Path,
    encoded_once: Path,
    repair: Callable[..., dict[str, Any]],
    damage: Callable[[Path], None],
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    damage(store / FIRST)
    assert repair(store, encoded_once)["mended"] == [FIRST]
    assert files_of(store) == files_of(store_once)
    touched = {name for name, time in before.items() if (store / name).stat().st_mtime_ns != time}
    assert touched == {FIRST}
    assert verify_store(store, encoded_once, IN_THIS_PROCESS).findings == ()


def test_a_whole_store_is_left_alone(
    store: Path, tmp_path: Path, repair: Callable[..., dict[str, Any]], encoded_once: Path
) -> None:
    expected = {"num_shards": 5, "mended": [], "left": [], "exit_status": 0}
    assert repair(store, encoded_once) == expected
    assert repair(store, tmp_path / "not needed") == expected
    assert not (store / ".mfcd").exists()


def test_processes_mend_all_shards(store: Path, store_once: Path, encoded_once: Path) -> None:
    for path in store.glob("shard-*.h5"):
        truncate(path)
    summary = repair_store(store, encoded_once, OnThisMachine(2))
    assert (len(summary.mended), summary.left) == (5, ())
    assert files_of(store) == files_of(store_once)
    assert list((store / ".mfcd" / "tmp").iterdir()) == []


@pytest.mark.parametrize("shard_gops", [6, 256])
def test_videos_that_failed_and_other_files_than_encodes(foreign: Path, tmp_path: Path, shard_gops: int) -> None:
    """The shards hold what the index says: a video that could not be extracted is in none of them."""
    broken = foreign / "run" / "03.mp4"
    broken.write_bytes(broken.read_bytes()[:-200])
    options = ExtractOptions(shard_gops=shard_gops, residual_step=1, tail="pad")
    assert extract_videos(foreign, tmp_path / "store", options).failures
    before = files_of(tmp_path / "store")
    for path in (tmp_path / "store").glob("*.h5"):
        flip(path)
    assert repair_store(tmp_path / "store", foreign, IN_THIS_PROCESS).left == ()
    assert files_of(tmp_path / "store") == before


def test_extract_keeps_what_was_mended(store_once: Path, encoded_once: Path, tmp_path: Path) -> None:
    """A flipped bit that neither size nor time tells: verify finds it, repair mends it, extract stands by it."""
    store = shutil.copytree(store_once, tmp_path / "store")
    flip(store / FIRST)
    assert plan_extract(encoded_once, store, OPTIONS).todo == []
    assert verify_store(store, None, IN_THIS_PROCESS).num_shards_damaged == 1
    assert repair_store(store, encoded_once, IN_THIS_PROCESS).mended == (FIRST,)
    assert plan_extract(encoded_once, store, OPTIONS).todo == []
    assert extract_videos(encoded_once, store, OPTIONS).num_shards_made == 0
    assert files_of(store) == files_of(store_once)


@pytest.mark.parametrize("how", ["damaged", "missing", "with a shard"])
def test_gops_npy_follows_from_the_shards(store: Path, store_once: Path, encoded_once: Path, how: str) -> None:
    (store / GOPS).write_bytes(b"damaged")
    if how == "missing":
        (store / GOPS).unlink()
    if how == "with a shard":
        (store / FIRST).unlink()
    expected = (FIRST, GOPS) if how == "with a shard" else (GOPS,)
    assert repair_store(store, encoded_once, IN_THIS_PROCESS).mended == expected
    assert files_of(store) == files_of(store_once)


def test_a_dry_run_changes_nothing(
    store: Path, encoded_once: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    truncate(store / FIRST)
    before = files_of(store)
    assert run_command("repair", store, encoded_once, "--dry-run", "--jobs", "1", "--json") == 0
    printed = capsys.readouterr()
    assert list(json.loads(printed.out)["todo"]) == [FIRST]
    assert f"would mend: {FIRST}: " in printed.err
    assert files_of(store) == before
    assert not (store / ".mfcd").exists()


# Left as it is, with the reason


def left_of(store: Path, encoded: Path, repair: Callable[..., dict[str, Any]]) -> str:
    """Why the first shard is not mended; nothing changes."""
    before = files_of(store)
    summary = repair(store, encoded)
    assert files_of(store) == before
    assert summary["mended"] == []
    (finding,) = summary["left"]
    assert finding["shard"] == FIRST
    problem: str = finding["problem"]
    return problem


def test_other_versions_are_named(store: Path, encoded_once: Path, repair: Callable[..., dict[str, Any]]) -> None:
    """A recorded checksum and version of another library stand for bytes that ours cannot make."""
    index = json.loads((store / INDEX).read_text())
    del index["checksum"]
    index["versions"]["h5py"] = "2.0.0"
    index["shards"][0]["checksum"] = "0" * 32
    write_document(store, index)
    now = library_versions("pyav")["h5py"]
    expected = f"its bytes would be others than recorded: it was made with h5py 2.0.0, here is h5py {now}"
    assert left_of(store, encoded_once, repair) == expected


def write_document(store: Path, index: dict[str, Any]) -> None:
    text = json.dumps(index, sort_keys=True, ensure_ascii=False)
    index["checksum"] = xxhash.xxh3_128_hexdigest(text.encode())
    (store / INDEX).write_text(json.dumps(index))


def test_settings_and_videos_that_differ_are_named(
    store: Path, encoded_once: Path, tmp_path: Path, repair: Callable[..., dict[str, Any]]
) -> None:
    other = encode_videos(encoded_once.with_name("source"), tmp_path / "other", EncodeSettings((64, 48), quality=5))
    assert other.num_encoded == 5
    flip(store / FIRST)
    problem = left_of(store, tmp_path / "other", repair)
    assert "encoded with quality 5, then 2" in problem
    assert "the encoded file of jump/a is another" in problem


def test_a_video_that_was_encoded_anew_is_named(
    store: Path, encoded: Path, repair: Callable[..., dict[str, Any]]
) -> None:
    shutil.copy(encoded / "jump" / "b.mp4", encoded / "jump" / "a.mp4")
    flip(store / FIRST)
    assert "jump/a: other bytes than the manifest recorded" in left_of(store, encoded, repair)


def test_a_video_that_is_gone_is_named(store: Path, encoded: Path, repair: Callable[..., dict[str, Any]]) -> None:
    flip(store / FIRST)
    (encoded / "jump" / "a.mp4").unlink()
    assert left_of(store, encoded, repair).startswith("jump/a: ")


def test_what_can_be_mended_is_mended_beside_what_cannot(
    store: Path, store_once: Path, encoded: Path, repair: Callable[..., dict[str, Any]]
) -> None:
    manifest = encoded / "manifest.jsonl"
    manifest.write_text("\n".join(line for line in manifest.read_text().splitlines() if '"jump/a"' not in line))
    for name in (FIRST, SECOND):
        flip(store / name)
    (store / GOPS).unlink()
    summary = repair(store, encoded)
    assert summary["mended"] == [SECOND]
    assert [finding["shard"] for finding in summary["left"]] == [FIRST, GOPS]
    assert summary["left"][0]["problem"] == f"jump/a is not among the videos of {encoded}"
    assert (store / SECOND).read_bytes() == (store_once / SECOND).read_bytes()


@pytest.mark.parametrize("name", [INDEX, VIDEOS])
def test_an_index_that_cannot_be_used_is_for_extract(store: Path, encoded_once: Path, name: str) -> None:
    (store / name).write_bytes(b"damaged")
    before = files_of(store)
    with pytest.raises(StoreError, match="run mfcd-prep extract again"):
        repair_store(store, encoded_once, IN_THIS_PROCESS)
    assert files_of(store) == before


def test_folders_without_anything_usable_are_wrong_usage(
    store: Path, encoded_once: Path, tmp_path: Path, run_command: Callable[..., int], foreign: Path
) -> None:
    (store / FIRST).unlink()
    assert run_command("repair", tmp_path / "none", encoded_once) == 2
    assert run_command("repair", store, tmp_path / "none") == 2
    with pytest.raises(UsageError, match="has none of the 1 videos of the damaged shards"):
        repair_store(store, foreign / "run", IN_THIS_PROCESS)


# A kill, a full disk


def test_a_kill_before_the_shard_is_in_place_leaves_it_for_the_next_run(
    store: Path, store_once: Path, encoded_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    flip(store / FIRST)
    before = files_of(store)
    with monkeypatch.context() as patch:
        patch.setattr(repair_module, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            repair_store(store, encoded_once, IN_THIS_PROCESS)
    assert files_of(store) == before
    assert repair_store(store, encoded_once, IN_THIS_PROCESS).mended == (FIRST,)
    assert files_of(store) == files_of(store_once)


def test_a_full_disk_is_one_line(store: Path, encoded_once: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    flip(store / FIRST)
    before = files_of(store)
    monkeypatch.setattr(repair_module, "publish", full)
    with pytest.raises(OutputError, match=r"No space left on device.*free some space, then run again"):
        repair_store(store, encoded_once, IN_THIS_PROCESS)
    assert files_of(store) == before
