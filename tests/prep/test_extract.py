"""Extract: everything of the encoded videos is in the store, the same in every run, and a bad video costs itself."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from stores import files_of
from synthetic import encode, pan

from mfcd_core.errors import OutputError, UsageError
from mfcd_core.store import Store
from mfcd_core.store.index import read_index
from mfcd_core.store.writer import ShardWriter
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LOSSLESS = ExtractOptions(residual_step=1)
SMALL_SHARDS = ExtractOptions(shard_gops=6)
ONE_VIDEO_A_SHARD = ExtractOptions(shard_gops=1)


def luma_of(path: Path) -> NDArray[np.uint8]:
    """(T, H, W), as PyAV decodes it without anything of ours."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)])


def rgb_of(path: Path) -> NDArray[np.uint8]:
    """(T, H, W, 3), as PyAV converts it."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


# What a store holds


def test_everything_of_the_encoded_videos_is_in_the_store(encoded: Path, tmp_path: Path) -> None:
    summary = extract_videos(encoded, tmp_path / "store", SMALL_SHARDS)
    store = Store(tmp_path / "store")
    assert store.videos.ids.tolist() == ["jump/a", "jump/b", "run/c", "run/d", "run/e"]
    assert store.videos.num_gops.tolist() == [2, 2, 1, 3, 1]
    assert store.videos.num_frames.tolist() == [24, 24, 12, 36, 7]
    assert store.classes == ("fall", "jump", "run")  # the only video of `fall` failed in encode
    assert [store.classes[row] for row in store.videos.labels] == ["jump", "jump", "run", "run", "run"]
    assert (summary.num_videos, summary.num_gops, summary.failures, summary.exit_status) == (5, 9, (), 0)
    assert summary.num_bytes == sum(path.stat().st_size for path in (tmp_path / "store").glob("shard-*.h5"))
    assert (store.settings.width_px, store.settings.height_px, store.settings.gop_size) == (64, 48, 12)
    assert (store.settings.encoder["size"], store.settings.encoder["quality"]) == ([64, 48], 2)
    assert set(store.versions) >= {"mfcd", "av", "h5py", "hdf5", "numpy", "zstandard"}


def test_a_lossless_store_gives_back_every_decoded_luma(encoded: Path, tmp_path: Path) -> None:
    """Eq. 2 at step 1, against a plain decode; RGB of the rebuilt planes within 2 levels."""
    extract_videos(encoded, tmp_path / "store", LOSSLESS)
    store = Store(tmp_path / "store")
    for video_id, num_gops in zip(store.videos.ids.tolist(), store.videos.num_gops, strict=True):
        gops = [store.read_gop(video_id, index) for index in range(num_gops)]
        luma = np.concatenate([gop.rebuild_planes()["luma"] for gop in gops])
        np.testing.assert_array_equal(luma, luma_of(encoded / f"{video_id}.mp4"))
        rgb = np.concatenate([gop.rebuild_frames() for gop in gops])
        assert np.abs(rgb.astype(int) - rgb_of(encoded / f"{video_id}.mp4")).max() <= 2


def test_a_lossless_rgb_store_gives_back_every_frame(encoded: Path, tmp_path: Path) -> None:
    extract_videos(encoded, tmp_path / "store", replace(LOSSLESS, pixel_format="rgb24"))
    gop = Store(tmp_path / "store").read_gop("run/d", 2)
    np.testing.assert_array_equal(gop.rebuild_frames(), rgb_of(encoded / "run/d.mp4")[24:])


@pytest.mark.parametrize("step", [2, 4])
def test_a_step_costs_half_of_it_at_most(encoded: Path, tmp_path: Path, step: int) -> None:
    extract_videos(encoded, tmp_path / "store", ExtractOptions(residual_step=step))
    store = Store(tmp_path / "store")
    error = np.abs(store.read_gop("run/d", 1).rebuild_planes()["luma"] - luma_of(encoded / "run/d.mp4")[12:24] * 1.0)
    assert 0 < error.max() <= step / 2
    assert {array.dtype.str for array in store.settings.stored_arrays() if "residual" in array.name} == {"|i1"}


def test_every_option_reaches_the_settings(encoded: Path, tmp_path: Path, run_command: Callable[..., int]) -> None:
    pixels = ("--pixel-format", "rgb24", "--trace", "integer", "--residual-step", "4")
    others = ("--level", "3", "--tail", "pad", "--shard-gops", "1", "--jobs", "1")
    assert run_command("extract", encoded, tmp_path / "store", *pixels, *others) == 0
    store = Store(tmp_path / "store")
    settings = store.settings.to_dict()
    expected = {"pixel_format": "rgb24", "trace": "integer", "residual_step": 4, "level": 3, "tail": "pad"}
    assert {name: settings[name] for name in expected} == expected
    assert len(store.shards) == 5


def test_frames_that_encode_repeated_are_not_real(encoded: Path, tmp_path: Path) -> None:
    source = encoded.parent / "source"
    for num_frames in (13, 24):
        encode(source / f"walk/{num_frames}.mp4", pan(num_frames, 1, 1, size=(48, 64)))
    encode_videos(source, tmp_path / "padded", EncodeSettings(size=(64, 48), tail="pad"))
    extract_videos(tmp_path / "padded", tmp_path / "store", ExtractOptions())
    store = Store(tmp_path / "store")
    assert store.videos.num_frames.tolist() == [13, 24]
    assert [store.read_gop("walk/13", index).real_frames for index in range(2)] == [12, 1]


def test_labels_splits_and_classes_touch_no_shard(encoded: Path, tmp_path: Path) -> None:
    """The manifest and the lists are corrected after the store was made."""
    store = tmp_path / "store"
    extract_videos(encoded, store, ONE_VIDEO_A_SHARD)
    before = {path.name: path.stat() for path in store.glob("*.h5")}
    manifest = encoded / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"label": "jump"', '"label": "leap"'))
    (tmp_path / "by set.csv").write_text("path,split\njump/a,train\njump/b,test\n")
    summary = extract_videos(encoded, store, ONE_VIDEO_A_SHARD, split_files=[tmp_path / "by set.csv"])
    assert (summary.num_shards_made, summary.num_shards_kept) == (0, 5)
    assert {path.name: path.stat() for path in store.glob("*.h5")} == before
    assert Store(store).classes == ("fall", "leap", "run")
    assert {role: rows.tolist() for role, rows in Store(store).splits["by set"].items()} == {"train": [0], "test": [1]}


# The same bytes


@pytest.mark.slow
def test_the_same_bytes_with_any_workers_and_paths(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_videos(encoded, tmp_path / "one", ONE_VIDEO_A_SHARD)
    extract_videos(encoded, tmp_path / "two", ONE_VIDEO_A_SHARD, workers=OnThisMachine(2))
    elsewhere = shutil.copytree(encoded, tmp_path / "another machine" / "e")
    for path in elsewhere.rglob("*.mp4"):
        os.utime(path, (1, 1))
    monkeypatch.chdir(elsewhere.parent)
    extract_videos(Path("e"), Path("s"), ONE_VIDEO_A_SHARD)
    expected = files_of(tmp_path / "one")
    assert len(expected) == 5 + 3
    assert files_of(tmp_path / "two") == expected
    assert files_of(elsewhere.parent / "s") == expected


@pytest.mark.parametrize("added", ["jump/00a", "jump/05", "run/z"])
def test_one_video_more_or_less_touches_its_shard_and_a_neighbour(foreign: Path, tmp_path: Path, added: str) -> None:
    """Shards that only change their number are renamed; the result is that of a store made afresh."""
    store, video = tmp_path / "store", foreign / f"{added}.mp4"
    extract_videos(foreign, store, SMALL_SHARDS)
    before = read_index(store).shards
    for change in ("more", "less"):
        if change == "more":
            shutil.copy(foreign / "run" / "03.mp4", video)
        else:
            video.unlink()
        mtimes = {path.stat().st_mtime_ns for path in store.glob("shard-*.h5")}
        summary = extract_videos(foreign, store, SMALL_SHARDS)
        after = read_index(store).shards
        assert len({s.checksum for s in before} - {s.checksum for s in after}) <= 2
        assert len({s.checksum for s in after} - {s.checksum for s in before}) == summary.num_shards_made <= 2
        assert summary.num_shards_made + summary.num_shards_kept == len(after)
        assert sum(path.stat().st_mtime_ns in mtimes for path in store.glob("*.h5")) == summary.num_shards_kept
        extract_videos(foreign, tmp_path / change, SMALL_SHARDS)
        assert files_of(store) == files_of(tmp_path / change)
        before = after


def test_stray_shards_go(encoded: Path, tmp_path: Path) -> None:
    extract_videos(encoded, tmp_path / "store", ONE_VIDEO_A_SHARD)
    extract_videos(encoded, tmp_path / "store", ExtractOptions())
    extract_videos(encoded, tmp_path / "new", ExtractOptions())
    assert files_of(tmp_path / "store") == files_of(tmp_path / "new")
    (tmp_path / "store" / "shard-00077.h5").write_text("left by another run")
    extract_videos(encoded, tmp_path / "store", ExtractOptions())
    assert files_of(tmp_path / "store") == files_of(tmp_path / "new")


# A bad video costs itself


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "problem", "reason"),
    [(damage, "damaged", "other bytes than the manifest recorded"), (Path.unlink, "gone", "No such file")],
)
def test_a_bad_file_costs_itself_until_it_is_mended(
    encoded: Path,
    tmp_path: Path,
    run_command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[Path], None],
    problem: str,
    reason: str,
) -> None:
    command = ("extract", encoded, tmp_path / "store", "--jobs", "1", "--json")
    whole = (encoded / "jump" / "b.mp4").read_bytes()
    fault(encoded / "jump" / "b.mp4")
    for num_made in (1, 0):
        assert run_command(*command) == 1
        said = capsys.readouterr()
        summary = json.loads(said.out)
        (failure,) = summary["failures"]
        assert (failure["id"], summary["num_shards_made"], summary["num_videos"]) == ("jump/b", num_made, 4)
        assert failure["problem"] == problem
        assert reason in failure["reason"]
        assert "failed: jump/b: " in said.err
    assert Store(tmp_path / "store").videos.ids.tolist() == ["jump/a", "run/c", "run/d", "run/e"]
    (encoded / "jump" / "b.mp4").write_bytes(whole)
    assert run_command(*command) == 0
    extract_videos(encoded, tmp_path / "good", ExtractOptions())
    assert files_of(tmp_path / "store") == files_of(tmp_path / "good")


def test_where_every_video_fails_the_reason_is_said(encoded: Path, tmp_path: Path) -> None:
    for path in encoded.rglob("*.mp4"):
        path.unlink()
    with pytest.raises(UsageError, match=r"could be extracted.*jump/a.*No such file"):
        extract_videos(encoded, tmp_path / "store", ExtractOptions())
    assert list((tmp_path / "store").glob("*.*")) == [tmp_path / "store" / ".mfcd"]


@pytest.mark.parametrize("place", [".", "store", "run/store"])
def test_a_store_within_the_encoded_videos_is_refused(
    encoded: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str], place: str
) -> None:
    before = sorted(encoded.rglob("*"))
    for more in ((), ("--dry-run",)):
        assert run_command("extract", encoded, encoded / place, *more) == 2
        assert f"lies in {encoded}, whose videos are read: give a folder outside of it" in capsys.readouterr().err
    assert sorted(encoded.rglob("*")) == before


def test_a_disk_that_is_full_within_a_video_is_not_its_fault(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GOPs that wait for their shard in a file need room, too."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "end_gop", full)
    with pytest.raises(OutputError, match=r"No space left on device.*free some space, then run again"):
        extract_videos(encoded, tmp_path / "store", ExtractOptions())
    monkeypatch.undo()
    assert extract_videos(encoded, tmp_path / "store", ExtractOptions()).num_videos == 5
