"""Faults that are not the video's: time, a killed ffmpeg, an output folder that is full, read-only or gone."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import imageio_ffmpeg
import pytest
from encoding import SMALL, transcode_one
from tiny_videos import grey_frames, write_video

from mfcd_core.catalog import Video
from mfcd_core.errors import DeadlineError, KilledError, OutputError, VideoError
from mfcd_prep import bitstream, process, transcode
from mfcd_prep.ffmpeg import ffmpeg_binary
from mfcd_prep.process import Deadline
from mfcd_prep.transcode import Transcoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REAL = imageio_ffmpeg.get_ffmpeg_exe()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mp4", grey_frames(30))


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a shell script in ffmpeg's place, for all but `ffmpeg -version`."""
    script = tmp_path / "ffmpeg.sh"

    def does(body: str) -> None:
        script.write_text(f"#!/bin/bash\n[ $1 = -version ] && exit\n{body}\n")
        script.chmod(0o755)

    does("exit 1")
    monkeypatch.setenv("MFCD_FFMPEG", str(script))
    ffmpeg_binary.cache_clear()
    yield does
    monkeypatch.undo()
    ffmpeg_binary.cache_clear()


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("kill -9 $$", "killed by SIGKILL"),
        ("kill -15 $$", "killed by SIGTERM"),
        (
            f'exec timeout --signal=TERM 0.5 "{REAL}" -loglevel level+info -re -f lavfi -i testsrc2 -f null -',
            "signal 15",
        ),
    ],
)
def test_a_killed_ffmpeg_is_no_verdict(source: Path, fake_ffmpeg: Callable[[str], None], does: str, said: str) -> None:
    fake_ffmpeg(does)
    with pytest.raises(KilledError, match=said):
        transcode_one(source)


def test_a_crash_of_ffmpeg_is_the_videos_fault(source: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg("kill -SEGV $$")
    record, _ = transcode_one(source)
    assert (record.status, record.problem) == ("failed", "undecodable")


def test_the_budget_is_of_the_whole_video_not_of_one_run(source: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    """A header without a count and too few frames take two runs; each alone is within the budget."""
    short = write_video(source.with_name("short.mkv"), grey_frames(7))
    fake_ffmpeg(f'sleep 0.7\nexec "{REAL}" "$@"')
    assert transcode_one(short, timeout_seconds=30)[0].status == "ok"
    with pytest.raises(DeadlineError, match=r"longer than 1\.2 s and was stopped: raise --timeout"):
        transcode_one(short, timeout_seconds=1.2)


@pytest.mark.parametrize("step", ["probe", "read_picture_types"])
def test_our_own_reading_is_within_the_budget(source: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The time runs out just before a step that is no program."""
    real = getattr(transcode, step)
    monkeypatch.setattr(transcode, step, lambda path, _: real(path, replace(Deadline.after(1), monotonic_end=0.0)))
    with pytest.raises(DeadlineError):
        transcode_one(source, timeout_seconds=1)


def test_the_deadline_is_looked_at_between_frames(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(process.time, "monotonic", lambda: next(clock))
    with pytest.raises(DeadlineError):
        bitstream.decode_picture_types(source, Deadline(10, 10))
    assert next(clock) < 20


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("[out#0/mp4 @ 0x1] [error] Error writing trailer: No space left on device", "free some space"),
        ("[out#0/mp4 @ 0x1] [error] Error opening output /x/y.mp4: Read-only file system", "can be written to"),
        ("[out#0/mp4 @ 0x1] [error] Error opening output /x/y.mp4: No such file or directory", "moved or removed"),
    ],
)
def test_what_ffmpeg_says_of_its_output_is_no_verdict(
    source: Path, fake_ffmpeg: Callable[[str], None], said: str, remedy: str
) -> None:
    fake_ffmpeg(f"echo '{said}' >&2; exit 1")
    with pytest.raises(OutputError, match=remedy) as caught:
        transcode_one(source)
    assert "\n" not in str(caught.value)


def test_a_file_whose_name_speaks_of_a_full_disk_fails_for_itself(tmp_path: Path) -> None:
    folder = tmp_path / "[out#0] [error] No space left on device"
    folder.mkdir()
    (folder / "No space left on device.mp4").write_text("no video")
    record, _ = transcode_one(folder / "No space left on device.mp4")
    assert (record.status, record.problem) == ("failed", "not-a-video")


def test_ffmpeg_that_cannot_open_its_output_is_no_verdict(source: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg(f'rm -r "$(dirname "${{@: -2:1}}" | sed s/^file://)"\nexec "{REAL}" "$@"')
    with pytest.raises(OutputError, match="No such file or directory"):
        transcode_one(source)


def test_a_limit_on_file_sizes_is_no_verdict(source: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg(f'ulimit -f 1\nexec "{REAL}" "$@"')
    with pytest.raises(OutputError, match="File too large"):
        transcode_one(source)


def test_a_vanished_scratch_folder_is_no_verdict(source: Path, tmp_path: Path) -> None:
    gone = Transcoder(tmp_path, tmp_path / "e", tmp_path / "gone", SMALL)
    with pytest.raises(OutputError, match=r"cannot write to .*gone .*run again"):
        gone.transcode(Video("v", source.name, None))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_output_folder_is_no_verdict(source: Path, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir(mode=0o500)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(OutputError, match="Permission denied"):
        Transcoder(tmp_path, tmp_path / "e", tmp_path / "scratch", SMALL).transcode(Video("v", source.name, None))


@pytest.mark.parametrize("number", [28, 30, 2, 122])
def test_a_fault_while_publishing_is_no_verdict(source: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(transcode, "sync_file", full)
    with pytest.raises(OutputError, match="cannot write to"):
        transcode_one(source)


def test_an_output_is_on_disk_before_it_has_its_name(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    rename = Path.replace

    def sync(path: Path) -> None:
        time.sleep(0.2)
        assert path.exists()
        events.append("on disk")

    def replaced(path: Path, target: Path) -> Path:
        events.append("named")
        return rename(path, target)

    monkeypatch.setattr(transcode, "sync_file", sync)
    monkeypatch.setattr(Path, "replace", replaced)
    record, _ = transcode_one(source)
    assert record.status == "ok"
    assert events == ["on disk", "named"]


def test_the_same_video_may_be_encoded_twice_at_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run happens wholly between the first one's encode and its check."""
    (tmp_path / "scratch").mkdir()
    transcoder = Transcoder(tmp_path, tmp_path / "e", tmp_path / "scratch", SMALL)
    video = Video("v", source.name, None)
    real = transcode.read_picture_types
    inner = []

    def check(path: Path, deadline: Deadline) -> str:
        if not inner:
            inner.append(None)
            inner[0] = transcoder.transcode(video)
        return real(path, deadline)

    monkeypatch.setattr(transcode, "read_picture_types", check)
    outer = transcoder.transcode(video)
    assert outer == inner[0]
    assert outer.status == "ok"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_nothing_is_left_behind_by_a_fault(source: Path, tmp_path: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg("kill -9 $$")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(KilledError):
        Transcoder(tmp_path, tmp_path / "e", tmp_path / "scratch", SMALL).transcode(Video("v", source.name, None))
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not (tmp_path / "e").exists()


def test_a_decoder_that_must_conceal_damage_says_so(source: Path, tmp_path: Path) -> None:
    """Flips in the encoded file; 1 of 300 was seen when the decoder was allowed to conceal."""
    record, path = transcode_one(source)
    assert record.status == "ok"
    data = path.read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov")
    seen = 0
    for at in range(start, end, max((end - start) // 60, 1)):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        (tmp_path / "f.mp4").write_bytes(flipped)
        try:
            seen += bitstream.decode_picture_types(tmp_path / "f.mp4") != "IPPPPPPPPPPP" * 2
        except VideoError:
            seen += 1
    assert seen >= 15


def test_ffmpeg_itself_is_bound_to_us() -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv of util-linux")
    assert process._bound_to_us()[1:] == ("--pdeathsig", "KILL", "--")
