"""Encode again: what is done, what is not done twice, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tiny_videos import cut_frames, grey_frames, write_video

from mfcd_core.errors import UsageError
from mfcd_prep import encode_results, transcode
from mfcd_prep.encode import encode_videos, plan_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.manifest import MANIFEST_NAME, read_manifest
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from pathlib import Path

from encoding import SMALL, encode_one, outputs, run_command


def num_recorded(encoded: Path) -> int:
    """Lines of its journals."""
    return sum(path.read_bytes().count(b"\n") for path in (encoded / ".mfcd" / "encode").glob("*.jsonl"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three videos of two classes."""
    for path, num_frames in [("run/1.avi", 24), ("run/2.mp4", 30), ("jump/3.mkv", 13)]:
        write_video(tmp_path / "source" / path, cut_frames(num_frames))
    return tmp_path / "source"


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any run of ffmpeg from here on is an error."""

    def refuse(*_: object) -> None:
        raise AssertionError("ffmpeg ran")

    monkeypatch.setattr(transcode, "encode", refuse)
    monkeypatch.setattr(transcode, "encode_together", refuse)


def test_a_second_run_does_nothing(source: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (source / "bad.mp4").write_text("no video")
    encode_videos(source, tmp_path / "e", SMALL)
    before = outputs(tmp_path / "e")
    request.getfixturevalue("no_encoding")
    summary = encode_videos(source, tmp_path / "e", SMALL)
    assert (summary.num_encoded, summary.num_unchanged, len(summary.failures)) == (0, 3, 1)
    assert outputs(tmp_path / "e") == before


def test_a_touched_source_or_output_is_not_encoded_again(
    source: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    encode_videos(source, tmp_path / "e", SMALL)
    os.utime(source / "run" / "1.avi", (1, 1))
    os.utime(tmp_path / "e" / "run" / "2.mp4", (1, 1))
    request.getfixturevalue("no_encoding")
    assert encode_videos(source, tmp_path / "e", SMALL).failures == ()


def test_what_changed_is_done_again_and_nothing_else(source: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "e", SMALL)
    before = outputs(tmp_path / "e")
    write_video(source / "run" / "1.avi", grey_frames(12))
    (tmp_path / "e" / "run" / "2.mp4").write_bytes(b"spoiled")
    plan = plan_videos(source, tmp_path / "e", SMALL)
    assert {todo.video.id: todo.why for todo in plan.iter_todo()} == {
        "run/1": "input changed",
        "run/2": "output changed or missing",
    }
    assert encode_videos(source, tmp_path / "e", SMALL).num_encoded == 2
    after = outputs(tmp_path / "e")
    assert after["run/2.mp4"] == before["run/2.mp4"]
    assert after["run/1.mp4"] != before["run/1.mp4"]


def test_other_settings_are_another_result_and_back_again(source: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "e", SMALL)
    before = outputs(tmp_path / "e")
    assert encode_videos(source, tmp_path / "e", EncodeSettings((64, 48), quality=5)).num_encoded == 3
    assert outputs(tmp_path / "e") != before
    assert encode_videos(source, tmp_path / "e", SMALL).num_encoded == 3
    assert outputs(tmp_path / "e") == before


def test_a_new_label_needs_no_encoding(source: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    encode_videos(source, tmp_path / "e", SMALL)
    request.getfixturevalue("no_encoding")
    (tmp_path / "list.txt").write_text("run/1.avi walk\nrun/2.mp4 walk\njump/3.mkv jump\n")
    encode_videos(source, tmp_path / "e", SMALL, lists=[tmp_path / "list.txt"])
    assert [v.label for v in read_manifest(tmp_path / "e").videos] == ["jump", "walk", "walk"]


def test_an_unfinished_run_leaves_no_manifest(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_videos(source, tmp_path / "e", SMALL, limit=1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transcode, "encode", interrupt)
        with pytest.raises(KeyboardInterrupt):
            encode_videos(source, tmp_path / "e", SMALL)
    with pytest.raises(UsageError, match="run mfcd-prep encode to its end"):
        read_manifest(tmp_path / "e")
    summary = encode_videos(source, tmp_path / "e", SMALL)
    assert (summary.num_encoded, summary.num_unchanged) == (2, 1)


def test_stale_unfinished_files_are_removed_at_the_start(source: Path, tmp_path: Path) -> None:
    say = "from mfcd_core.atomic import this_process; print(this_process())"
    ended = subprocess.run([sys.executable, "-c", say], capture_output=True, check=True, text=True)
    stale = tmp_path / "e" / ".mfcd" / "tmp" / ended.stdout.strip()
    stale.mkdir(parents=True)
    (stale / "half.mp4").write_bytes(b"half")
    encode_videos(source, tmp_path / "e", SMALL, limit=1)
    assert not stale.exists()


@pytest.mark.slow
def test_the_same_bytes_with_any_number_of_jobs(source: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "one", SMALL, workers=OnThisMachine(1))
    encode_videos(source, tmp_path / "three", SMALL, workers=OnThisMachine(3))
    assert outputs(tmp_path / "one") == outputs(tmp_path / "three")


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("encode", source, tmp_path / "e", "--dry-run", "--json") == 0
    todo = json.loads(capsys.readouterr().out)["todo"]
    assert todo == [{"id": video_id, "why": "new"} for video_id in ("jump/3", "run/1", "run/2")]
    assert not (tmp_path / "e").exists()


def test_limit_takes_the_first_videos_by_id(source: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "e", SMALL, limit=2)
    assert [video.id for video in read_manifest(tmp_path / "e").videos] == ["jump/3", "run/1"]


def test_an_official_list_chooses_videos(source: Path, tmp_path: Path) -> None:
    (tmp_path / "trainlist01.txt").write_text("run/1.avi 2\nrun/gone.avi 2\n")
    summary = encode_videos(source, tmp_path / "e", SMALL, lists=[tmp_path / "trainlist01.txt"])
    assert [(video.id, video.label) for video in read_manifest(tmp_path / "e").videos] == [("run/1", "run")]
    assert summary.unmatched == ("run/gone.avi",)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_cut_off_anywhere_is_finished_by_the_next(tmp_path: Path, number: signal.Signals) -> None:
    for index in range(24):
        write_video(tmp_path / "s" / f"{index:02d}.mp4", cut_frames(60))
    encode_videos(tmp_path / "s", tmp_path / "undisturbed", EncodeSettings())
    command = [sys.executable, "-c", "from mfcd_prep.cli import main; main()"]
    command += ["encode", str(tmp_path / "s"), str(tmp_path / "e"), "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while num_recorded(tmp_path / "e") < 4:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait() == (130 if number == signal.SIGINT else -number)
    num_done = num_recorded(tmp_path / "e")
    assert num_done < 24
    summary = encode_videos(tmp_path / "s", tmp_path / "e", EncodeSettings(), workers=OnThisMachine(2))
    assert (summary.num_encoded, summary.num_unchanged) == (24 - num_done, num_done)
    assert outputs(tmp_path / "e") == outputs(tmp_path / "undisturbed")


def test_strict_fails_a_damaged_video_and_encodes_nothing_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole = write_video(tmp_path / "s" / "v.avi", cut_frames(60), codec=("-c:v", "mpeg4", "-q:v", "2"))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert encode_one(tmp_path / "s")[0].status == "ok"
    request.getfixturevalue("no_encoding")
    record, _ = encode_one(tmp_path / "s", EncodeSettings((64, 48), strict=True))
    assert record.status == "failed"
    assert "--strict" in (record.reason or "")
    assert encode_one(tmp_path / "s")[0].status == "ok"


def test_bytes_that_changed_under_an_old_time_are_seen(source: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "e", SMALL)
    video = source / "run" / "1.avi"
    before, stat = video.read_bytes(), video.stat()
    video.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    os.utime(video, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    plan = plan_videos(source, tmp_path / "e", SMALL)
    assert [(todo.video.id, todo.why) for todo in plan.iter_todo()] == [("run/1", "input changed")]


def test_names_are_on_disk_before_the_manifest_speaks_of_them(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = {}

    def sync(folder: Path) -> None:
        assert not (tmp_path / "e" / MANIFEST_NAME).exists()
        synced[folder.name] = len(list(folder.glob("*.mp4")))

    monkeypatch.setattr(encode_results, "sync_folder", sync)
    encode_videos(source, tmp_path / "e", SMALL)
    assert synced == {"e": 0, "run": 2, "jump": 1}
