"""mfcd-prep verify: silent on what extract makes, loud on damage, and with --deep on what no checksum can see."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from synthetic import StoredGop, encode, pan, write_places, write_shard

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_core.store.index import GOPS, INDEX, VIDEOS, Shards, read_index, write_index
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.subset import Subset
from mfcd_prep.verify import verify_store
from mfcd_prep.workers import IN_THIS_PROCESS, OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST = "shard-00000.h5"


@pytest.fixture(scope="module")
def store_once(encoded_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("verify") / "store"
    extract_videos(encoded_once, store, ExtractOptions(shard_gops=1))
    return store


@pytest.fixture
def store(store_once: Path, tmp_path: Path) -> Path:
    """A copy, one video a shard, that the test may damage."""
    return shutil.copytree(store_once, tmp_path / "store")


@pytest.fixture
def verify(
    run_command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Runs `mfcd-prep verify --json` in this process; returns what it printed, after a look at the exit status."""
    monkeypatch.setattr("mfcd_prep.store_cli.OnThisMachine", lambda _jobs: IN_THIS_PROCESS)

    def run(*arguments: str | Path) -> dict[str, Any]:
        status = run_command("verify", *arguments, "--jobs", "1", "--json")
        summary: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert status == summary["exit_status"] == (1 if summary["findings"] else 0)
        return summary

    return run


def test_a_clean_store_has_no_findings(store: Path, encoded_once: Path, verify: Callable[..., dict[str, Any]]) -> None:
    checked = {"num_shards_checked": 5, "num_shards_damaged": 0, "findings": [], "exit_status": 0}
    counts = {"num_shards": 5, "num_videos": 5, "num_gops": 9, "subset": "100%", "seed": 0} | checked
    assert verify(store) == counts | {"num_videos_decoded": 0, "num_gops_audited": 0}
    assert verify(store, "--deep", encoded_once) == counts | {"num_videos_decoded": 5, "num_gops_audited": 9}


@pytest.mark.slow
def test_processes_find_the_same(store: Path, encoded_once: Path) -> None:
    (store / FIRST).unlink()
    assert verify_store(store, encoded_once, OnThisMachine(2)) == verify_store(store, encoded_once, IN_THIS_PROCESS)


# A draw


def test_a_draw_checks_some_shards_and_some_videos(
    store: Path, encoded_once: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each shard holds one video; over the seeds the damaged one is found, and not always."""
    (store / FIRST).unlink()
    found = set()
    for seed in range(12):
        summary = verify_store(store, None, IN_THIS_PROCESS, Subset("40%", seed))
        assert summary.num_shards_checked == 2
        found.add(tuple(finding.shard for finding in summary.findings))
    assert found == {(), (FIRST,)}
    run_command("verify", store, "--subset", "3", "--deep", encoded_once, "--jobs", "1")
    assert "only a draw of 3 with seed 0: 3 of 5 shards and 3 of 5 videos" in capsys.readouterr().err


def test_a_draw_counts_what_it_proved(store: Path, encoded_once: Path, verify: Callable[..., dict[str, Any]]) -> None:
    summary = verify(store, "--subset", "2", "--seed", "3", "--deep", encoded_once)
    assert (summary["num_shards_checked"], summary["num_videos_decoded"]) == (2, 2)
    assert 2 <= summary["num_gops_audited"] <= 5  # of 2, 2, 1, 3, 1
    assert summary == verify(store, "--subset", "2", "--seed", "3", "--deep", encoded_once)


def test_a_draw_without_any_of_its_videos_in_the_folder_names_them(
    store: Path, encoded: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    (encoded / "manifest.jsonl").write_text((encoded / "manifest.jsonl").read_text().splitlines()[0] + "\n")
    findings = verify(store, "--subset", "1", "--deep", encoded)["findings"]
    assert ["is not among the videos of" in finding["problem"] for finding in findings] == [True]


# Damage


def test_a_flipped_bit_names_shard_video_and_gop(store: Path, verify: Callable[..., dict[str, Any]]) -> None:
    place = Store(store).places[6]  # run/d is rows 5 to 7
    path = store / "shard-00003.h5"
    data = bytearray(path.read_bytes())
    data[int(place["offset"]) + 60] ^= 4
    path.write_bytes(data)
    whole_file, chunk = verify(store)["findings"]
    assert (whole_file["shard"], whole_file["video"]) == (path.name, None)
    assert (chunk["shard"], chunk["video"], chunk["gop_index"]) == (path.name, "run/d", 1)
    assert chunk["problem"] == "iframe/luma has other bytes than were written"


def test_a_missing_and_a_stray_shard(
    store: Path, verify: Callable[..., dict[str, Any]], run_command: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    (store / FIRST).rename(store / "shard-00007.h5")
    assert [(finding["shard"], finding["problem"]) for finding in verify(store)["findings"]] == [
        ("shard-00007.h5", "is not in the index; delete it, it is no part of the store"),
        (FIRST, "is missing"),
    ]
    assert run_command("verify", store, "--jobs", "1") == 1
    said = capsys.readouterr().err
    assert "wrong: shard-00000.h5: is missing" in said
    assert f"to mend 1 damaged shards: mfcd-prep repair {store} ENCODED" in said


@pytest.mark.parametrize("name", [INDEX, VIDEOS, GOPS])
@pytest.mark.parametrize("deep", [False, True])
def test_a_damaged_index_is_a_finding(
    store: Path, encoded_once: Path, verify: Callable[..., dict[str, Any]], name: str, *, deep: bool
) -> None:
    data = bytearray((store / name).read_bytes())
    data[-3] ^= 1
    (store / name).write_bytes(data)
    summary = verify(store, *(("--deep", encoded_once) if deep else ()))
    assert any(finding["shard"] in (name, INDEX) for finding in summary["findings"])


def test_an_index_of_another_store(
    store: Path, tmp_path: Path, foreign: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    extract_videos(foreign, tmp_path / "other", ExtractOptions(shard_gops=1))
    for name in (INDEX, VIDEOS, GOPS):
        shutil.copy(tmp_path / "other" / name, store / name)
    problems = {finding["problem"] for finding in verify(store)["findings"] if finding["shard"] == FIRST}
    assert {"other videos than the index", "other settings than the index"} <= problems


def test_a_folder_that_is_no_store_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither index\.json nor shards"):
        verify_store(tmp_path, None, IN_THIS_PROCESS)


# Against the encoded videos


@pytest.mark.parametrize(
    "options",
    [
        ExtractOptions(residual_step=1),
        ExtractOptions(residual_step=4),
        ExtractOptions(pixel_format="rgb24"),
        ExtractOptions(trace="integer"),
    ],
    ids=lambda options: f"{options.pixel_format}-{options.residual_step}-{options.trace}",
)
def test_deep_is_silent_on_every_kind_of_store(encoded_once: Path, tmp_path: Path, options: ExtractOptions) -> None:
    extract_videos(encoded_once, tmp_path / "store", options)
    summary = verify_store(tmp_path / "store", encoded_once, IN_THIS_PROCESS)
    assert (summary.findings, summary.num_gops_audited) == ((), 9)


@pytest.mark.parametrize("tail", ["auto", "pad"])
def test_deep_is_silent_on_tails_of_other_videos(tmp_path: Path, tail: str) -> None:
    for num in (5, 30):
        encode(tmp_path / "e" / f"{num}.mp4", pan(num, 1, -1, size=(48, 64)))
    extract_videos(tmp_path / "e", tmp_path / "store", ExtractOptions(tail=tail))
    assert verify_store(tmp_path / "store", tmp_path / "e", IN_THIS_PROCESS).findings == ()


def tampered(store: Path, video_id: str, change: Callable[[StoredGop], StoredGop]) -> None:
    """Write a video's shard, places and index again with another first GOP: every checksum fits."""
    opened, index = Store(store), read_index(store)
    row = opened.videos.row_of(video_id)
    gops = []
    for gop_index in range(int(opened.videos.num_gops[row])):
        gop, step = opened.read_gop(video_id, gop_index), opened.settings.residual_step
        iframes = {f"iframe/{name}": plane for name, plane in gop.iframe.items()}
        residuals = {
            f"residual/{name}": (plane // step).astype(opened.settings.residual_dtype)
            for name, plane in gop.residual.items()
        }
        gops.append(StoredGop({**iframes, **residuals, "motion": gop.motion}, gop.real_frames))
    entry = write_shard(store / opened.shard_of(row), opened.settings, {video_id: [change(gops[0]), *gops[1:]]})
    shards = [entry if shard.name == entry.name else shard for shard in index.shards]
    write_places(store, opened.settings, shards)
    write_index(store, replace(index, shards=Shards.collect(shards)))


def with_wrong_motion(gop: StoredGop) -> StoredGop:
    """One pixel of frame 7 looks one pixel further down, and its residual makes up for it: Eq. 2 holds."""
    motion, residual = gop.arrays["motion"].copy(), gop.arrays["residual/luma"].copy()
    y, x = np.argwhere(motion[6, 0] > 0)[0]  # looks up from the row below: not at the lower edge
    y, x = int(y) | 1, int(x) | 1  # an odd place: no chroma sample looks there
    iframe = gop.arrays["iframe/luma"].astype(int)
    dy, dx = motion[6, :, y, x]
    before, after = iframe[y - dy, x - dx], iframe[y - dy + 1, x - dx]
    motion[6, 0, y, x] -= 1
    residual[6, y, x] += before - after
    return replace(gop, arrays={**gop.arrays, "motion": motion, "residual/luma": residual})


def test_deep_finds_wrong_motion_that_keeps_eq_2(
    encoded_once: Path, tmp_path: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    """Checksums, tables and the rebuilt frames are all in order: only the re-trace sees it."""
    store = tmp_path / "store"
    extract_videos(encoded_once, store, ExtractOptions(shard_gops=1, residual_step=1))
    frames = Store(store).read_gop("jump/a", 0).rebuild_frames()
    tampered(store, "jump/a", with_wrong_motion)
    np.testing.assert_array_equal(Store(store).read_gop("jump/a", 0).rebuild_frames(), frames)
    assert verify(store)["findings"] == []
    (finding,) = verify(store, "--deep", encoded_once)["findings"]
    assert (finding["shard"], finding["video"], finding["gop_index"]) == (FIRST, "jump/a", 0)
    assert finding["problem"] == "frame 7: motion differs from a plain re-trace at 1 pixels"


def test_deep_names_videos_that_are_not_there(
    store: Path, encoded: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    """One file is gone, and another video is not in the manifest any more."""
    (encoded / "run" / "c.mp4").unlink()
    manifest = encoded / "manifest.jsonl"
    lines = [line for line in manifest.read_text().splitlines() if '"run/d"' not in line]
    manifest.write_text("\n".join(lines))
    summary = verify(store, "--deep", encoded)
    missing, unknown = summary["findings"]
    unproven = sum(Store(store).videos.num_gops[Store(store).videos.row_of(video)] for video in ("run/c", "run/d"))
    assert summary["num_gops_audited"] == summary["num_gops"] - unproven
    assert (missing["shard"], missing["video"]) == ("shard-00002.h5", "run/c")
    assert "No such file" in missing["problem"]
    assert (unknown["shard"], unknown["video"]) == ("shard-00003.h5", "run/d")
    assert "is not among the videos of" in unknown["problem"]


def test_deep_finds_a_video_that_was_encoded_anew(
    store: Path, encoded: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    shutil.copy(encoded / "jump" / "b.mp4", encoded / "jump" / "a.mp4")
    findings = verify(store, "--deep", encoded)["findings"]
    assert {finding["video"] for finding in findings} == {"jump/a"}


def test_deep_against_no_encoded_folder_is_wrong_usage(
    store: Path, tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("verify", store, "--deep", tmp_path / "missing", "--jobs", "1") == 2
    assert "is not a folder" in capsys.readouterr().err
