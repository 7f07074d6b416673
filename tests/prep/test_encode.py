"""Encode on tiny videos of known content, and on real ones where they lie beside the checkout.

Expectations come from arithmetic, from the ffmpeg program, or from PyAV's count of the source's frames.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import click
import numpy as np
import pytest
from tiny_videos import cut_frames, grey_frames, run_tool, types_by_tool, write_video

from mfcd_core.errors import UsageError
from mfcd_prep import cli, transcode
from mfcd_prep.encode import encode_videos, plan_videos
from mfcd_prep.ffmpeg import ffmpeg_binary
from mfcd_prep.manifest import read_manifest
from mfcd_prep.transcode import TAILS, EncodeSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_prep.manifest import VideoRecord

SMALL = EncodeSettings(size=(64, 48))
GRID = "IPPPPPPPPPPP"


def encode_one(folder: Path, settings: EncodeSettings = SMALL) -> tuple[VideoRecord, Path]:
    """Encode the only video of `folder`; returns its record and its file."""
    encoded = folder.with_name(f"{folder.name} encoded")
    encode_videos(folder, encoded, settings)
    (record,) = read_manifest(encoded).videos
    return record, encoded / f"{record.id}.mp4"


def rgb_frames(path: Path) -> NDArray[np.uint8]:
    """(T, H, W, 3), as PyAV gives them."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def num_decoded(path: Path) -> int:
    """Frames of the first video stream that PyAV decodes, up to the first packet that it refuses for good."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            try:
                count += len(packet.decode())
            except av.InvalidDataError:
                continue
    return count


def left_over(encoded: Path) -> list[Path]:
    """Files of ENCODED that are neither videos nor records."""
    known = {"manifest.jsonl", "encode.jsonl"}
    return [path for path in encoded.rglob("*") if path.is_file() and path.suffix != ".mp4" and path.name not in known]


def outputs(encoded: Path) -> dict[str, bytes]:
    return {str(path.relative_to(encoded)): path.read_bytes() for path in encoded.rglob("*.mp4")} | {
        "manifest": (encoded / "manifest.jsonl").read_bytes()
    }


def run_command(*arguments: str | Path) -> int:
    """Exit status of `mfcd-prep` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mfcd-prep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three videos of two classes."""
    for path, num_frames in [("run/1.avi", 24), ("run/2.mp4", 30), ("jump/3.mkv", 13)]:
        write_video(tmp_path / "source" / path, cut_frames(num_frames))
    return tmp_path / "source"


# The grid


@pytest.mark.parametrize("quality", [2, 5])
def test_hard_cuts_do_not_break_the_grid(tmp_path: Path, quality: int) -> None:
    write_video(tmp_path / "s" / "v.mp4", cut_frames(48, every=5))
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 64), quality=quality))
    assert types_by_tool(path) == GRID * 4
    assert (record.num_frames, record.real_frames, record.num_gops) == (48, 48, 4)


@pytest.mark.parametrize("gop_size", [2, 16])
def test_other_gop_sizes_work(tmp_path: Path, gop_size: int) -> None:
    write_video(tmp_path / "s" / "v.mp4", cut_frames(32, every=3))
    _, path = encode_one(tmp_path / "s", EncodeSettings((64, 64), gop_size=gop_size))
    assert types_by_tool(path) == ("I" + "P" * (gop_size - 1)) * (32 // gop_size)


# num_frames, real_frames by tail and by frames of the source; None: the video fails
TAIL_TABLE = {
    "auto": {1: (12, 1), 11: (12, 11), 12: (12, 12), 13: (12, 12), 24: (24, 24), 30: (24, 24)},
    "drop": {1: None, 11: None, 12: (12, 12), 13: (12, 12), 24: (24, 24), 30: (24, 24)},
    "pad": {1: (12, 1), 11: (12, 11), 12: (12, 12), 13: (24, 13), 24: (24, 24), 30: (36, 30)},
}


@pytest.mark.parametrize(("tail", "num"), [(tail, num) for tail, rows in TAIL_TABLE.items() for num in rows])
def test_tails(tmp_path: Path, tail: str, num: int) -> None:
    extension = "mkv" if num % 2 else "mp4"  # one has no count in its header, the other has
    write_video(tmp_path / "s" / f"v.{extension}", grey_frames(num))
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 48), tail=tail))
    expected = TAIL_TABLE[tail][num]
    if expected is None:
        assert record.status == "failed"
        assert f"{num} frames" in (record.reason or "")
        assert not path.exists()
        return
    assert (record.num_frames, record.real_frames) == expected
    assert record.num_frames_decoded == num
    assert types_by_tool(path) == GRID * (expected[0] // 12)
    levels = rgb_frames(path).mean(axis=(1, 2, 3))
    shown = np.minimum(np.arange(expected[0]), expected[1] - 1)
    np.testing.assert_allclose(levels, 16 + 4 * shown, atol=1.5)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("num", range(1, 50))
def test_tail_rules_keep_whole_gops(tail: str, num: int) -> None:
    num_frames = TAILS[tail](num, 12)
    assert num_frames % 12 == 0
    assert abs(num_frames - num) < 12
    assert {"drop": num_frames <= num, "pad": num_frames >= num, "auto": num_frames >= 12}[tail]


# Pictures: colour, geometry, times

BARS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200), (200, 40, 200)], np.uint8)


def bar_frames(height: int, width: int) -> NDArray[np.uint8]:
    return np.broadcast_to(BARS[np.arange(width) * len(BARS) // width], (12, height, width, 3)).copy()


@pytest.mark.parametrize(
    ("size", "matrix", "matrix_range", "tagged"),
    [
        ((320, 240), "bt601", "tv", True),
        ((320, 240), "bt709", "tv", True),
        ((320, 240), "bt709", "pc", True),
        ((320, 240), "bt601", "tv", False),
        ((1280, 720), "bt601", "tv", True),
        ((1280, 720), "bt709", "tv", False),
    ],
)
def test_colours_survive_whatever_the_matrix_of_the_source(
    tmp_path: Path, size: tuple[int, int], matrix: str, matrix_range: str, *, tagged: bool
) -> None:
    names = {"bt601": "smpte170m", "bt709": "bt709"}
    tags = (names[matrix], matrix_range) if tagged else ("unknown", "unknown")
    filters = f"scale=out_color_matrix={matrix}:out_range={matrix_range}:flags=accurate_rnd,format=yuv420p"
    filters += f",setparams=colorspace={tags[0]}:range={tags[1]}"
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", *(("-colorspace", tags[0]) if tagged else ()))
    write_video(tmp_path / "s" / "v.mp4", bar_frames(size[1], size[0]), codec=codec, filters=filters)
    record, path = encode_one(tmp_path / "s", EncodeSettings((96, 96)))
    assert record.matrix == (names[matrix] if tagged else "unspecified")
    middles = rgb_frames(path)[:, 48, 8::16].astype(int)
    assert np.abs(middles - BARS).max() <= 8


def test_rotation_is_applied(tmp_path: Path) -> None:
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    frames[:, :, :32] = 255  # left half white
    upright = write_video(tmp_path / "upright.mp4", frames)
    (tmp_path / "s").mkdir()
    run_tool("-display_rotation", "90", "-i", f"{upright}", "-c", "copy", f"{tmp_path / 's' / 'v.mp4'}")
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 64)))
    assert abs(record.rotation or 0) == 90
    picture = rgb_frames(path)[0].mean(axis=2)
    assert picture[40:].mean() > 230  # a quarter turn against the clock: left becomes bottom
    assert picture[:24].mean() < 25


def test_pixels_become_square(tmp_path: Path) -> None:
    write_video(tmp_path / "s" / "v.mp4", grey_frames(12), filters="setsar=2/1")
    record, path = encode_one(tmp_path / "s")
    assert record.sar == "2"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio in (None, 1)
        assert (stream.width, stream.height) == (64, 48)


def test_a_variable_frame_rate_keeps_every_frame_in_order(tmp_path: Path) -> None:
    filters = "settb=1/1000,setpts='40*N+7*mod(N\\,3)+200*gte(N\\,20)'"
    codec = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv420p", "-bf", "0", "-fps_mode", "vfr")
    video = write_video(tmp_path / "s" / "v.mkv", grey_frames(36), filters=filters, codec=codec)
    assert num_decoded(video) == 36
    record, path = encode_one(tmp_path / "s")
    assert (record.num_frames_decoded, record.num_frames) == (36, 36)
    np.testing.assert_allclose(rgb_frames(path).mean(axis=(1, 2, 3)), 16 + 4 * np.arange(36), atol=1.5)


def test_fps_resamples(tmp_path: Path) -> None:
    write_video(tmp_path / "s" / "v.mp4", grey_frames(48))
    record, path = encode_one(tmp_path / "s", EncodeSettings((64, 48), fps=Fraction(25, 2)))
    assert (record.num_frames_decoded, record.num_frames) == (48, 24)
    steps = np.diff(rgb_frames(path).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(steps, 8, atol=2.5)  # every other frame


def test_sound_and_subtitles_are_dropped(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", grey_frames(24))
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    (tmp_path / "s").mkdir()
    tracks = ("-i", f"{silent}", "-f", "lavfi", "-i", "sine=d=1", "-i", f"{tmp_path / 'words.srt'}")
    run_tool(*tracks, "-map", "0", "-map", "1", "-map", "2", "-c:v", "copy", f"{tmp_path / 's' / 'v.mkv'}")
    _, path = encode_one(tmp_path / "s")
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_every_output_begins_at_time_zero(tmp_path: Path) -> None:
    write_video(tmp_path / "s" / "v.mkv", grey_frames(24), filters="setpts=PTS+3/TB")
    _, path = encode_one(tmp_path / "s")
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(24) / 25, atol=1e-6)


# Failures, names, hostile files


def test_a_bad_video_costs_itself(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "run" / "text.mp4").write_text("no video")
    assert run_command("encode", source, tmp_path / "e", "--size", "64x48", "--jobs", "1", "--json") == 1
    summary = json.loads(capsys.readouterr().out)
    assert summary["num_encoded"] == 3
    assert [failure[0] for failure in summary["failures"]] == ["run/text"]
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


def test_strict_fails_a_damaged_video_and_encodes_nothing_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    whole = write_video(tmp_path / "s" / "v.avi", cut_frames(60), codec=("-c:v", "mpeg4", "-q:v", "2"))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert encode_one(tmp_path / "s")[0].status == "ok"
    request.getfixturevalue("no_encoding")
    record, _ = encode_one(tmp_path / "s", EncodeSettings((64, 48), strict=True))
    assert record.status == "failed"
    assert "--strict" in (record.reason or "")
    assert encode_one(tmp_path / "s")[0].status == "ok"


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
        "café",
    ]
    template = write_video(tmp_path / "v.mp4", grey_frames(12)).read_bytes()
    for name in names:
        (tmp_path / "s" / name).mkdir(parents=True)
        (tmp_path / "s" / name / f"{name}.mp4").write_bytes(template)
    summary = encode_videos(tmp_path / "s", tmp_path / "e", SMALL, jobs=2)
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
    ("does", "reason"), [("kill -9 $$", "killed by SIGKILL"), ("sleep 60 & sleep 60", "took longer than 0.5 s")]
)
def test_a_killed_or_endless_ffmpeg_is_tried_again_by_the_next_run(
    source: Path, tmp_path: Path, fake_ffmpeg: Path, does: str, reason: str
) -> None:
    fake_ffmpeg.write_text(f"#!/bin/sh\n[ $1 = -version ] || {{ {does}; }}\n")
    start = time.monotonic()
    summary = encode_videos(source, tmp_path / "e", SMALL, limit=1, timeout_seconds=0.5)
    assert time.monotonic() - start < 10
    assert summary.exit_status == 2
    assert reason in summary.failures[0][1]
    assert left_over(tmp_path / "e") == []
    fake_ffmpeg.write_text(f'#!/bin/sh\nexec "{real_binary()}" "$@"\n')
    assert encode_videos(source, tmp_path / "e", SMALL, limit=1).exit_status == 0


def real_binary() -> str:
    import imageio_ffmpeg  # noqa: PLC0415, beside the patched environment

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def test_an_encoder_that_leaves_the_grid_is_caught(source: Path, tmp_path: Path, fake_ffmpeg: Path) -> None:
    fake_ffmpeg.write_text(f'#!/bin/bash\nexec "{real_binary()}" "${{@/#12/5}}"\n')  # GOPs of 5 where 12 were asked for
    summary = encode_videos(source, tmp_path / "e", SMALL, limit=1)
    assert "frame 5 is I, expected P on a grid of 12" in summary.failures[0][1]
    assert list((tmp_path / "e").rglob("*.mp4")) == []


# Running again


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any run of ffmpeg from here on is an error."""

    def refuse(*_: object) -> None:
        raise AssertionError("ffmpeg ran")

    monkeypatch.setattr(transcode, "encode", refuse)


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
    assert {todo.video.id: todo.why for todo in plan.todo} == {
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
    encode_videos(source, tmp_path / "e", SMALL, videos_list=tmp_path / "list.txt")
    assert [v.label for v in read_manifest(tmp_path / "e").videos] == ["jump", "walk", "walk"]


def test_an_unfinished_run_leaves_no_manifest(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_videos(source, tmp_path / "e", SMALL, limit=1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transcode, "encode", interrupt)
        assert run_command("encode", source, tmp_path / "e", "--size", "64x48", "--jobs", "1") == 130
    with pytest.raises(UsageError, match="run mfcd-prep encode to its end"):
        read_manifest(tmp_path / "e")
    summary = encode_videos(source, tmp_path / "e", SMALL)
    assert (summary.num_encoded, summary.num_unchanged) == (2, 1)


def test_stale_unfinished_files_are_removed_at_the_start(source: Path, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    stale = tmp_path / "e" / ".mfcd" / "tmp" / f"{os.uname().nodename}-{int(ended.stdout)}"
    stale.mkdir(parents=True)
    (stale / "half.mp4").write_bytes(b"half")
    encode_videos(source, tmp_path / "e", SMALL, limit=1)
    assert not stale.exists()


def test_the_same_bytes_with_any_number_of_jobs(source: Path, tmp_path: Path) -> None:
    encode_videos(source, tmp_path / "one", SMALL, jobs=1)
    encode_videos(source, tmp_path / "three", SMALL, jobs=3)
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


def test_an_official_list_chooses_videos(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trainlist01.txt").write_text("run/1.avi 2\nrun/gone.avi 2\n")
    encode_videos(source, tmp_path / "e", SMALL, videos_list=tmp_path / "trainlist01.txt")
    assert [(video.id, video.label) for video in read_manifest(tmp_path / "e").videos] == [("run/1", "run")]
    assert "1 entries of trainlist01.txt match no video" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_cut_off_anywhere_is_finished_by_the_next(tmp_path: Path, number: signal.Signals) -> None:
    for index in range(24):
        write_video(tmp_path / "s" / f"{index:02d}.mp4", cut_frames(60))
    encode_videos(tmp_path / "s", tmp_path / "undisturbed", EncodeSettings())
    command = [sys.executable, "-c", "from mfcd_prep.cli import main; main()"]
    command += ["encode", str(tmp_path / "s"), str(tmp_path / "e"), "--jobs", "2"]
    journal = tmp_path / "e" / ".mfcd" / "encode.jsonl"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait() == (130 if number == signal.SIGINT else -number)
    num_done = journal.read_bytes().count(b"\n")
    assert num_done < 24
    summary = encode_videos(tmp_path / "s", tmp_path / "e", EncodeSettings(), jobs=2)
    assert (summary.num_encoded, summary.num_unchanged) == (24 - num_done, num_done)
    assert outputs(tmp_path / "e") == outputs(tmp_path / "undisturbed")


# Real videos


def test_real_clips_with_packed_b_frames_are_whole(real_clips: Path, tmp_path: Path) -> None:
    source = real_clips / "ut-interaction"
    paths = [sorted((source / name).glob("*.avi"))[3].relative_to(source) for name in ("hugging", "kicking")]
    (tmp_path / "list.txt").write_text("".join(f"{path} {path.parent}\n" for path in paths))
    encode_videos(source, tmp_path / "e", EncodeSettings(), videos_list=tmp_path / "list.txt")
    for record in read_manifest(tmp_path / "e").videos:
        assert record.num_frames_decoded == num_decoded(source / record.source)
        assert record.damage is None
        assert types_by_tool(tmp_path / "e" / f"{record.id}.mp4") == GRID * (record.num_frames_decoded // 12)


FAILS = {
    "derived_text_file": "cannot be read as a video",
    "exo_sample_audio_only": "no video stream",
    "exo_video_init": "no frame could be decoded",
    "moviepy_result": "cannot be read as a video",
}
DAMAGED = {
    "decord_corrupted": "1 packets could not be decoded",
    "derived_truncated_mmaction_test": "164 frames in the header",
}
# Frames by the README of the data, where it says so; the others are PyAV's count of the source.
NUM_BY_README = {
    "decord_corrupted": 49,
    "decord_video_90": 3,
    "derived_truncated_mmaction_test": 78,
    "openshot_test1": 21,
    "torchcodec_h265_video": 10,
    "mvext_vid_mpeg4_part2": 337,
}


@pytest.fixture(scope="module")
def odd(real_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoded = tmp_path_factory.mktemp("odd")
    summary = encode_videos(real_clips / "odd", encoded, EncodeSettings(), jobs=2)
    assert (summary.num_encoded, len(summary.failures)) == (20, 4)
    return encoded


@pytest.mark.slow
def test_odd_videos_fail_for_their_own_reason(odd: Path) -> None:
    failed = {v.id: v.reason or "" for v in read_manifest(odd).videos if v.status == "failed"}
    assert set(failed) == set(FAILS)
    assert all(reason in failed[video_id] for video_id, reason in FAILS.items())


@pytest.mark.slow
def test_odd_videos_are_marked_where_they_are_damaged(odd: Path) -> None:
    damaged = {v.id: v.damage for v in read_manifest(odd).videos if v.status == "ok" and v.damage}
    assert set(damaged) == set(DAMAGED)
    assert all(reason in (damaged[video_id] or "") for video_id, reason in DAMAGED.items())


@pytest.mark.slow
def test_odd_videos_have_all_their_frames_on_the_grid(odd: Path, real_clips: Path) -> None:
    for record in read_manifest(odd).videos:
        if record.status != "ok":
            continue
        expected = NUM_BY_README.get(record.id) or num_decoded(real_clips / "odd" / record.source)
        assert record.num_frames_decoded == expected, record.id
        num_gops = max(expected // 12, 1)
        assert (record.num_gops, record.real_frames) == (num_gops, min(expected, 12 * num_gops)), record.id
        assert types_by_tool(odd / f"{record.id}.mp4") == GRID * num_gops, record.id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("video_id", "said"),
    [
        (
            "hmdb_6arrowswithin30seconds_shoot_bow_f_nm_np1_fr_med_3",
            {"num_frames_from_header": 82, "num_frames_decoded": 81},
        ),
        ("mmaction_demo", {"width": 340, "height": 256, "sar": "64/51"}),
        ("mmaction_demo_skeleton", {"height": 1080, "matrix_read_as": "bt709"}),
        ("decord_video_90", {"rotation": -90.0, "real_frames": 3}),
        ("exo_bear-vp9-odd-dimensions", {"width": 161, "height": 121}),
        ("exo_roadtrip-vp92-10bit", {"pixel_format": "yuv420p10le"}),
        ("imageio_cockatoo", {"pixel_format": "yuv444p"}),
        ("moviepy_bitmap", {"width": 1, "height": 1}),
        ("vpf_test_res_change", {"width": 848, "height": 464, "num_frames": 96}),
    ],
)
def test_odd_videos_are_recorded_as_the_readme_describes_them(
    odd: Path, video_id: str, said: dict[str, object]
) -> None:
    (record,) = (video for video in read_manifest(odd).videos if video.id == video_id)
    assert {key: record.to_dict()[key] for key in said} == said


@pytest.mark.slow
def test_a_size_change_in_the_middle_keeps_both_halves(odd: Path, real_clips: Path) -> None:
    with av.open(str(real_clips / "odd" / "vpf_test_res_change.h264")) as container:
        wanted = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    got = rgb_frames(odd / "vpf_test_res_change.mp4").mean(axis=(1, 2, 3))
    assert len(wanted) == len(got) == 96
    assert np.corrcoef(wanted, got)[0, 1] > 0.99


def test_every_command_and_option_explains_itself() -> None:
    for command in cli.cli.commands.values():
        assert command.help, command.name
        options = [param for param in command.params if isinstance(param, click.Option)]
        assert all(option.help for option in options), command.name
