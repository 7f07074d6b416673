"""Encode where something fails: bad videos, odd names, hostile files, a broken ffmpeg."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from tiny_videos import cut_frames, grey_frames, write_video

from mfcd_core.errors import MfcdError, UsageError
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_plan import journal_folder
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.ffmpeg import ffmpeg_binary
from mfcd_prep.journal import Records
from mfcd_prep.manifest import read_manifest
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from encoding import SMALL, encode_one, left_over, num_decoded, run_command


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three videos of two classes."""
    for path, num_frames in [("run/1.avi", 24), ("run/2.mp4", 30), ("jump/3.mkv", 13)]:
        write_video(tmp_path / "source" / path, cut_frames(num_frames))
    return tmp_path / "source"


def test_a_bad_video_costs_itself(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "run" / "text.mp4").write_text("no video")
    assert run_command("encode", source, tmp_path / "e", "--size", "64x48", "--jobs", "1", "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_encoded"] == 3
    assert [failure["id"] for failure in summary["failures"]] == ["run/text"]
    assert {v.id: v.status for v in read_manifest(tmp_path / "e").videos} == {
        "jump/3": "ok",
        "run/1": "ok",
        "run/2": "ok",
        "run/text": "failed",
    }
    assert left_over(tmp_path / "e") == []


def test_exit_status_is_2_where_nothing_is_usable(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    assert run_command("encode", tmp_path / "s", tmp_path / "e") == 2
    (tmp_path / "s" / "v.mp4").write_text("no video")
    assert run_command("encode", tmp_path / "s", tmp_path / "e") == 2
    assert run_command("encode", tmp_path / "s", tmp_path / "e", "--size", "15x15") == 2
    assert run_command("encode", tmp_path / "s", tmp_path / "s" / "e") == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (33, 64)},
        {"size": (8, 64)},
        {"gop_size": 1},
        {"quality": 1},
        {"quality": 32},
        {"tail": "cut"},
        {"fps": Fraction(0)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        EncodeSettings(**wrong)  # type: ignore[arg-type]


def test_a_truncated_video_is_kept_and_marked(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", cut_frames(60), codec=("-c:v", "mpeg4", "-q:v", "2"))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "v.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    num = num_decoded(tmp_path / "s" / "v.avi")
    assert 12 < num < 60
    record, _ = encode_one(tmp_path / "s")
    assert (record.num_frames_from_header, record.num_frames_decoded) == (60, num)
    assert "60 frames in the header" in (record.damage or "")


def test_a_failure_takes_the_place_of_an_older_success(tmp_path: Path) -> None:
    write_video(tmp_path / "s" / "v.mp4", grey_frames(7))
    assert encode_one(tmp_path / "s")[1].exists()
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 48), tail="drop"))
    assert record.status == "failed"
    assert not path.exists()


def test_any_name_is_encoded(tmp_path: Path) -> None:
    names = [
        "it's",
        'say "x"',
        "two  blanks",
        "-y",
        "line\nbreak",
        "100%d",
        "a:b",
        "snow ☃",
        "[0]",
        "cafe\u0301",
        "thé",
    ]
    template = write_video(tmp_path / "v.mp4", grey_frames(12)).read_bytes()
    for name in names:
        (tmp_path / "s" / name).mkdir(parents=True)
        (tmp_path / "s" / name / f"{name}.mp4").write_bytes(template)
    summary = encode_videos(tmp_path / "s", tmp_path / "e", SMALL, workers=OnThisMachine(2))
    assert summary.failures == ()
    assert {(v.id, v.label) for v in read_manifest(tmp_path / "e").videos} == {(f"{n}/{n}", n) for n in names}
    assert all((tmp_path / "e" / name / f"{name}.mp4").is_file() for name in names)


def test_a_playlist_named_as_a_video_reaches_no_other_file(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", grey_frames(12))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x.avi").write_text("ffconcat version 1.0\nfile ../secret.mp4\n")
    record, path = encode_one(tmp_path / "s")
    assert record.status == "failed"
    assert not path.exists()


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A script in ffmpeg's place; write what it is to do after its first line."""
    script = tmp_path / "ffmpeg.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("MFCD_FFMPEG", str(script))
    ffmpeg_binary.cache_clear()
    yield script
    monkeypatch.undo()
    ffmpeg_binary.cache_clear()


@pytest.mark.parametrize(
    ("does", "timeout_seconds", "reason"),
    [
        ("kill -9 $$", None, "killed by SIGKILL"),
        ("sleep 900 & sleep 900", 0.5, "took longer than 0.5 s"),
        ("exit 127", None, "said nothing"),  # a library that it needs is missing
        ("exit 0", None, "did not say how many frames"),
        ('rm "$0"; exec "$0"', None, "said nothing"),  # its mount is lost
    ],
)
def test_a_killed_endless_or_broken_ffmpeg_is_tried_again_by_the_next_run(
    source: Path, tmp_path: Path, fake_ffmpeg: Path, does: str, timeout_seconds: float | None, reason: str
) -> None:
    """An endless one would sleep longer than a test may take."""
    fake_ffmpeg.write_text(f"#!/bin/sh\n[ $1 = -version ] && echo ffmpeg version 0 || {{ {does}; }}\n")
    summary = encode_videos(source, tmp_path / "e", SMALL, limit=1, timeout_seconds=timeout_seconds)
    assert summary.exit_status == 2
    assert reason in summary.failures[0].reason
    assert left_over(tmp_path / "e") == []
    fake_ffmpeg.write_text(f'#!/bin/sh\nexec "{real_binary()}" "$@"\n')
    fake_ffmpeg.chmod(0o755)
    assert encode_videos(source, tmp_path / "e", SMALL, limit=1).exit_status == 0


def test_the_time_that_a_source_takes_to_read_counts(tmp_path: Path) -> None:
    path = write_video(tmp_path / "s" / "v.avi", cut_frames(24))
    with path.open("ab") as file:
        file.truncate(1 << 40)  # a terabyte, all but the first bytes a hole
    summary = encode_videos(tmp_path / "s", tmp_path / "e", SMALL, timeout_seconds=0.5)
    assert [(failure.problem, failure.reason) for failure in summary.failures] == [
        ("timeout", "took longer than 0.5 s and was stopped: raise --timeout")
    ]
    with Records(journal_folder(tmp_path / "e")) as records:
        assert (records.find("v") or {})["content"] == ""  # it was not read to its end


@pytest.mark.parametrize("fault", ["rm", "truncate -s 9000"])
def test_a_source_that_goes_or_changes_while_it_is_read_is_tried_again(
    tmp_path: Path, fake_ffmpeg: Path, fault: str
) -> None:
    path = write_video(tmp_path / "s" / "v.avi", cut_frames(24))
    write_video(tmp_path / "s" / "other.avi", cut_frames(12))
    whole, stat = path.read_bytes(), path.stat()
    strike = f'case "$*" in *"{path}"*) {fault} "{path}" ;; esac'
    fake_ffmpeg.write_text(f'#!/bin/sh\n{strike}\nexec "{real_binary()}" "$@"\n')
    assert "v.avi changed or went away" in encode_videos(tmp_path / "s", tmp_path / "e", SMALL).failures[-1].reason
    path.write_bytes(whole)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as the mount comes back
    fake_ffmpeg.write_text(f'#!/bin/sh\nexec "{real_binary()}" "$@"\n')
    summary = encode_videos(tmp_path / "s", tmp_path / "e", SMALL)
    assert (summary.failures, summary.damaged) == ((), ())


LOST = "[in#0/avi @ 0x5] [error] Error during demuxing: Input/output error"


@pytest.mark.parametrize(
    ("num_read", "status"),
    [((5, 9), "failed"), ((9, 9), "ok"), ((5, 24), "ok")],
    ids=["never the same", "the file's own", "it passes"],
)
def test_what_a_disk_does_not_give_is_no_damage_of_the_file(
    tmp_path: Path, fake_ffmpeg: Path, num_read: tuple[int, int], status: str
) -> None:
    """Each run of the script sees another number of the 24 frames, and says `LOST` where these are not all."""
    path = write_video(tmp_path / "s" / "v.avi", cut_frames(24))
    for number in num_read:
        write_video(tmp_path / f"{number}.avi", cut_frames(number))
    runs = "".join(
        f'{n}) echo "{LOST if number < 24 else ""}" >&2; seen="{tmp_path}/{number}.avi";;\n'
        for n, number in enumerate(num_read)
    )
    fake_ffmpeg.write_text(
        f"#!/bin/bash\n[ $1 = -version ] && echo ffmpeg version 0 && exit\n"
        f"n=$(cat {tmp_path}/n || echo 0); echo 1 > {tmp_path}/n\n"
        f"case $n in\n{runs}esac\n"
        f'exec "{real_binary()}" "${{@/"{path}"/"$seen"}}"\n'
    )
    encode_videos(tmp_path / "s", tmp_path / "e", SMALL)
    (video,) = read_manifest(tmp_path / "e").videos
    assert video.status == status


def real_binary() -> str:
    import imageio_ffmpeg  # noqa: PLC0415, beside the patched environment

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def test_an_encoder_that_leaves_the_grid_is_caught(source: Path, tmp_path: Path, fake_ffmpeg: Path) -> None:
    fake_ffmpeg.write_text(f'#!/bin/bash\nexec "{real_binary()}" "${{@/#12/5}}"\n')  # GOPs of 5 where 12 were asked for
    summary = encode_videos(source, tmp_path / "e", SMALL, limit=1)
    assert "frame 5 is I, expected P on a grid of 12" in summary.failures[0].reason
    assert list((tmp_path / "e").rglob("*.mp4")) == []


def test_a_program_that_is_no_ffmpeg_is_refused_before_any_video(
    source: Path, tmp_path: Path, fake_ffmpeg: Path
) -> None:
    fake_ffmpeg.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(
        MfcdError, match="does not run as ffmpeg: unset or correct MFCD_FFMPEG, and run mfcd-prep doctor"
    ):
        encode_videos(source, tmp_path / "e", SMALL)
    assert not list(tmp_path.glob("e/**/*.jsonl"))


@pytest.mark.parametrize("name", ["manifest.jsonl", "failures.csv"])
def test_a_class_with_the_name_of_a_file_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / "s" / name / "a.mp4", grey_frames(12))
    with pytest.raises(UsageError, match=r"is a folder of videos, but encode writes .*: rename the folder"):
        encode_videos(tmp_path / "s", tmp_path / "e", SMALL)


def test_an_error_is_json_too_where_json_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("encode", tmp_path / "none", tmp_path / "e", "--json") == 2
    said = json.loads(capsys.readouterr().out)
    assert said["exit_status"] == 2
    assert "none is not a folder" in said["error"]


def test_what_a_kill_left_beside_the_manifest_goes_at_the_next_start(source: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "e", SMALL)
    ended = subprocess.run([sys.executable, "-c", "from mfcd_core.atomic import this_process; print(this_process())"],
                           capture_output=True, check=True, text=True)  # fmt: skip
    left = tmp_path / "e" / f".manifest.jsonl.0123abcd.{ended.stdout.strip()}.part"
    left.write_text("half")
    encode_videos(source, tmp_path / "e", SMALL)
    assert not left.exists()
