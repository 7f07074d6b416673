"""The ffmpeg program: which one, the command that encodes to a fixed grid of GOPs, and running it safely."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import ffmpeg
import imageio_ffmpeg

from mfcd_core.errors import MfcdError, VideoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

# Real containers and raw streams alone: a playlist, `concat` or a device named x.avi reaches other files.
VIDEO_DEMUXERS = (
    "avi",
    "mov",
    "matroska",
    "mpeg",
    "mpegts",
    "flv",
    "asf",
    "ogg",
    "gif",
    "h264",
    "hevc",
    "m4v",
    "mpegvideo",
)
LOCAL_VIDEO_ONLY = {"protocol_whitelist": "file", "format_whitelist": ",".join(VIDEO_DEMUXERS)}
NO_SCENE_CUTS = 1_000_000_000  # `g` alone still gets I-frames at scene cuts
SCALE_FLAGS = "bicubic+accurate_rnd+bitexact"  # without the last two the bytes depend on the processor
STOPPED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Verbose, because the counts of decoded frames and of decode errors are said at that level alone.
LOGGED = ("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+verbose")
ONE_THREAD = ("-filter_threads", "1", "-filter_complex_threads", "1")
MAX_LINE_BYTES = 4096
NUM_LAST_LINES = 20


class FfmpegStoppedError(MfcdError):
    """Ffmpeg was killed, timed out or could not write: this says nothing about the video."""


@dataclass(frozen=True)
class EncodeCommand:
    """What one run of ffmpeg is to do.

    size: (width, height) of the encoded frames, pixels. source_fps: nominal rate; frame k gets the time
    k / source_fps, so that each decoded frame is kept. fps: resample to this rate instead, by the source's own
    times. in_matrix: `scale`'s name for the source's matrix. num_padding: times the last frame is repeated.
    """

    source: Path
    target: Path
    size: tuple[int, int]
    gop_size: int
    quality: int
    source_fps: Fraction
    fps: Fraction | None = None
    in_matrix: str = "auto"
    num_padding: int = 0

    def arguments(self) -> list[str]:
        """The command line after the program's name."""
        times = {} if self.fps else {"r": str(self.source_fps)}
        source = ffmpeg.input(_url(self.source), threads=1, reinit_filter=0, **times, **LOCAL_VIDEO_ONLY)
        output = ffmpeg.output(self._filtered(source["V:0"]), _url(self.target), **self._encoder())
        return [*LOGGED, *ONE_THREAD, *output.overwrite_output().get_args()]

    def _filtered(self, video: ffmpeg.Stream) -> ffmpeg.Stream:
        if self.fps:
            video = video.filter("fps", str(self.fps))
        video = video.filter(
            "scale",
            *self.size,
            flags=SCALE_FLAGS,
            in_color_matrix=self.in_matrix,
            out_color_matrix="bt601",
            out_range="tv",
        )
        video = video.filter("setsar", 1).filter("format", "yuv420p")
        return video.filter("tpad", stop_mode="clone", stop=self.num_padding) if self.num_padding else video

    def _encoder(self) -> dict[str, object]:
        frames = {"g": self.gop_size, "bf": 0, "sc_threshold": NO_SCENE_CUTS, "q:v": self.quality}
        alone: dict[str, object] = {"an": None, "sn": None, "dn": None, "map_metadata": -1, "map_chapters": -1}
        exact = {"threads": 1, "fps_mode": "passthrough", "fflags": "+bitexact", "flags:v": "+bitexact"}
        return {"format": "mp4", "vcodec": "mpeg4", **frames, **alone, **exact}


@dataclass(frozen=True)
class FfmpegResult:
    """How a run of ffmpeg ended.

    exit_status: 0, positive, or minus the signal. rotation: degrees, of the source's display matrix, which ffmpeg
    applied. num_packets, num_decoded: read from the file, and frames that came of them; None where it did not get
    so far. num_decode_errors: packets that the decoder refused. complaints: the last errors and warnings;
    num_complaints: all of them, num_errors without the warnings.
    """

    exit_status: int
    rotation: float
    num_packets: int | None
    num_decoded: int | None
    num_decode_errors: int
    num_errors: int
    num_complaints: int
    complaints: tuple[str, ...]

    @property
    def last_complaint(self) -> str:
        """What the demuxer or decoder said last; ffmpeg's own echoes of it come second."""
        said = [line for line in self.complaints if not _ECHO.search(line)] or self.complaints
        return said[-1] if said else ""


@cache
def ffmpeg_binary() -> str:
    """Path of ffmpeg: MFCD_FFMPEG where it is set, else the one that imageio-ffmpeg ships.

    Raises:
        MfcdError: there is none.
    """
    wish = os.environ.get("MFCD_FFMPEG")
    if wish:
        found = shutil.which(wish)
        if found is None:
            raise MfcdError(f"MFCD_FFMPEG is {wish!r}, which is no program: correct or unset it")
        return found
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MfcdError(f"no ffmpeg ({error}): install imageio-ffmpeg or set MFCD_FFMPEG to a program") from error


@cache
def ffmpeg_version(binary: str) -> str:
    """What the program calls itself, for example `n9.0.2`."""
    said = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False)  # noqa: S603, as above
    return said.stdout.removeprefix("ffmpeg version ").partition(" ")[0]


def run_ffmpeg(arguments: Sequence[str], timeout_seconds: float | None = None) -> FfmpegResult:
    """Run ffmpeg to its end in a process group of its own, which dies with this call.

    Raises:
        FfmpegStoppedError: it was killed from outside or took longer than `timeout_seconds`.
    """
    with _process([ffmpeg_binary(), *arguments]) as process, _deadline(process, timeout_seconds) as timed_out:
        reading = _LogReader()
        reading.read(process)
        exit_status = process.wait()
    if timed_out.is_set():
        raise FfmpegStoppedError(f"took longer than {timeout_seconds:g} s and was stopped: raise --timeout")
    if -exit_status in STOPPED_FROM_OUTSIDE:
        raise FfmpegStoppedError(f"ffmpeg was killed by {signal.Signals(-exit_status).name}: run again")
    return reading.result(exit_status)


def encode(command: EncodeCommand, timeout_seconds: float | None = None) -> FfmpegResult:
    """Run `command`.

    Raises:
        VideoError: ffmpeg gave up on the video, or decoded no frame of it.
        FfmpegStoppedError: it was killed, timed out, or the disk is full.
    """
    result = run_ffmpeg(command.arguments(), timeout_seconds)
    if result.num_decoded == 0:
        raise VideoError(f"no frame could be decoded: {result.last_complaint or 'the stream is empty'}")
    if result.exit_status == 0:
        return result
    if any("No space left on device" in line for line in result.complaints):
        raise FfmpegStoppedError(f"no space left for {command.target.parent}: free some and run again")
    raise VideoError(f"ffmpeg ended with status {result.exit_status}: {result.last_complaint or 'it said nothing'}")


_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_COMPLAINT = re.compile(r"^(?:\[[^\]]*\] )*\[(warning|error|fatal|panic)\] ")
_INPUT = re.compile(
    r"Input stream #0:\d+ \(video\): (\d+) packets read .*; (\d+) frames decoded;(?: (\d+) decode errors)?"
)
_ROTATION = re.compile(r"^\[info\] +display ?matrix: rotation of (-?\d+(?:\.\d+)?) degrees", re.IGNORECASE)
_ECHO = re.compile(r"\[(vist|vost|vf|out|fc)#|Task finished|Terminating thread|Error opening|^\[(error|fatal)\]")


class _LogReader:
    """Drains ffmpeg's log line by line and keeps counts, never the log."""

    def __init__(self) -> None:
        self._rotation = 0.0
        self._counts: tuple[int | None, int | None, int] = (None, None, 0)
        self._errors = 0
        self._all = 0
        self._last: deque[str] = deque(maxlen=NUM_LAST_LINES)

    def read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101, it was opened as a pipe
        while line := process.stderr.readline(MAX_LINE_BYTES):
            self._take(_ADDRESS.sub("", line.decode("utf-8", "replace")).rstrip())

    def _take(self, line: str) -> None:
        if counts := _INPUT.search(line):
            self._counts = int(counts[1]), int(counts[2]), int(counts[3] or 0)
        elif rotation := _ROTATION.search(line):
            self._rotation = float(rotation[1])
        elif complaint := _COMPLAINT.search(line):
            self._all += 1
            self._errors += complaint[1] != "warning"
            self._last.append(line)

    def result(self, exit_status: int) -> FfmpegResult:
        num_packets, num_decoded, num_decode_errors = self._counts
        return FfmpegResult(
            exit_status=exit_status,
            rotation=self._rotation,
            num_packets=num_packets,
            num_decoded=num_decoded,
            num_decode_errors=num_decode_errors,
            num_errors=self._errors,
            num_complaints=self._all,
            complaints=tuple(self._last),
        )


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` with its log on a pipe; on the way out nothing of it is left running."""
    with subprocess.Popen(  # noqa: S603, a list, no shell, and paths behind `file:`
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                _kill_group(process)


@contextmanager
def _deadline(process: subprocess.Popen[bytes], seconds: float | None) -> Iterator[threading.Event]:
    timed_out = threading.Event()

    def stop() -> None:
        timed_out.set()
        _kill_group(process)

    if seconds is None:
        yield timed_out
        return
    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield timed_out
    finally:
        timer.cancel()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _url(path: Path) -> str:
    """The path as ffmpeg takes it: never an option, never a protocol."""
    return f"file:{path.absolute()}"
