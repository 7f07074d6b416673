"""The ffmpeg program: which one, and the command that encodes to a fixed grid of GOPs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import ffmpeg

from mfcd_core.errors import KilledError, MfcdError
from mfcd_prep.damage import require_frames
from mfcd_prep.ffmpeg_log import LogReader
from mfcd_prep.output import output_error
from mfcd_prep.process import NO_DEADLINE, run_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction
    from pathlib import Path

    from mfcd_prep.ffmpeg_log import FfmpegResult
    from mfcd_prep.process import Deadline

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
# A few bytes can announce any frame size: these bound the memory that decoding takes. 8K is 2**25 pixels.
MAX_SOURCE_SIDE_PX, MAX_SOURCE_PIXELS = 16384, 1 << 26
MAX_BLOCK_BYTES = 1 << 30
NO_SCENE_CUTS = 1_000_000_000  # `g` alone still gets I-frames at scene cuts
SCALE_FLAGS = "bicubic+accurate_rnd+bitexact"  # without the last two the bytes depend on the processor
# Verbose, because the counts of decoded frames and of decode errors are said at that level alone.
LOGGED = ("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+verbose")
KEPT = ("-max_error_rate", "1")  # a source most of whose packets are refused is damaged, no failure
BOUNDED = ("-filter_threads", "1", "-filter_complex_threads", "1", "-max_alloc", str(MAX_BLOCK_BYTES))

Filter = tuple[str, "Mapping[str, str | int]"]


class Program(NamedTuple):
    """An ffmpeg: where it is, and what it calls itself, for example `n9.0.2`."""

    binary: str
    version: str


@dataclass(frozen=True)
class EncodeCommand:
    """What one run of ffmpeg is to do.

    track_index: the stream of `source` to encode. size: (width, height) of the encoded frames, pixels. source_fps:
    nominal rate; frame k gets the time k / source_fps, so that each decoded frame is kept. fps: resample to this rate
    instead, by the source's own times. in_matrix: `scale`'s name for the source's matrix. first_filters: what makes
    upright, progressive pictures of the source's. max_frames: write no more than these of the first, but decode all;
    not together with `fps`. num_padding: times the last frame is repeated. Transparent pixels keep the colour that is
    stored under them.
    """

    source: Path
    target: Path
    track_index: int
    size: tuple[int, int]
    gop_size: int
    quality: int
    source_fps: Fraction
    fps: Fraction | None = None
    in_matrix: str = "auto"
    first_filters: tuple[Filter, ...] = ()
    max_frames: int | None = None
    num_padding: int = 0

    def num_written(self, num_real: int) -> int:
        """Frames of the output where the source has `num_real`, none of them lost."""
        kept = num_real if self.max_frames is None else min(num_real, self.max_frames)
        return kept + self.num_padding

    def arguments(self) -> list[str]:
        """The command line after the program's name."""
        return arguments_of([self])

    def halves(self, number: int) -> tuple[list[str], list[str]]:
        """What comes before the outputs, and what comes after the inputs, in a command line of several."""
        times = {} if self.fps else {"r": str(self.source_fps)}
        decoder = {"threads": 1, "reinit_filter": 0, "noautorotate": None, "max_pixels": MAX_SOURCE_PIXELS}
        source = ffmpeg.input("SOURCE", **decoder, **times, **LOCAL_VIDEO_ONLY)
        video = self._filtered(source[str(self.track_index)])
        texts = ffmpeg.output(video, "TARGET", **self._encoder()).get_args()
        urls = {"SOURCE": url_of(self.source), "TARGET": url_of(self.target)}  # names may be no valid text
        graph = texts.index("-filter_complex")
        own = [text.replace("[0:", f"[{number}:").replace("[s", f"[s{number}_") for text in texts]  # labels of graphs
        arguments = [urls.get(text, text) for text in own]
        return arguments[:graph], arguments[graph:]

    def _filtered(self, video: ffmpeg.Stream) -> ffmpeg.Stream:
        for name, options in self.first_filters:
            video = video.filter(name, **options)
        if self.fps:
            video = video.filter("fps", str(self.fps))
        if self.max_frames is not None:  # by time: a frame lost before this one is missing in the output
            video = video.filter("select", f"lt(t*{self.source_fps},{self.max_frames - 0.5})")
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


def arguments_of(commands: Sequence[EncodeCommand]) -> list[str]:
    """The command line, after the program's name, by which one run does all of `commands`."""
    inputs, outputs = zip(*(command.halves(number) for number, command in enumerate(commands)), strict=True)
    return [*LOGGED, *KEPT, *BOUNDED, *chain(*inputs), *chain(*outputs), "-y"]


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
    import imageio_ffmpeg  # noqa: PLC0415, a worker that is told its program needs it not

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MfcdError(f"no ffmpeg ({error}): install imageio-ffmpeg or set MFCD_FFMPEG to a program") from error


@cache
def ffmpeg_version(binary: str) -> str:
    """What the program calls itself."""
    said = subprocess.run([binary, "-version"], capture_output=True, text=True, check=False)  # noqa: S603, as above
    return said.stdout.removeprefix("ffmpeg version ").partition(" ")[0]


def find_ffmpeg() -> Program:
    """The program that this process is to use. It is started for that, twice the first time. Raises MfcdError."""
    binary = ffmpeg_binary()
    return Program(binary, ffmpeg_version(binary))


def require_ffmpeg() -> Program:
    """As `find_ffmpeg`.

    Raises:
        MfcdError: there is none, or it does not even say its version: every video would fail with it.
    """
    program = find_ffmpeg()
    if not program.version:
        raise MfcdError(
            f"{program.binary} does not run as ffmpeg: unset or correct MFCD_FFMPEG, and run mfcd-prep doctor"
        )
    return program


def encode(command: EncodeCommand, deadline: Deadline = NO_DEADLINE, binary: str | None = None) -> FfmpegResult:
    """Run `command`. binary: of ffmpeg, None is this process's.

    Raises:
        VideoError: ffmpeg gave up on the video, or decoded no frame of it.
        DeadlineError, KilledError, OutputError, MfcdError: this says nothing about the video.
    """
    result = _run(command, deadline, binary)
    if result.cannot_read is not None:  # a damaged file says so at the same place again, a disk or a network hardly
        first, result = result, _run(command, deadline, binary)
        if result.num_packets is None or (result.cannot_read and result.num_packets != first.num_packets):
            raise MfcdError(f"its file could not be read ({first.cannot_read}): look after the disk, then run again")
    require_frames(result)
    return result


def encode_together(
    commands: Sequence[EncodeCommand], deadline: Deadline = NO_DEADLINE, binary: str | None = None
) -> tuple[FfmpegResult, ...]:
    """Run all of `commands` in one start of the program. binary: as of `encode`.

    Raises:
        MfcdError: it did not end well and without a word. Whose fault that is shows when each is run by itself.
    """
    log, exit_status = _logged(commands, deadline, binary)
    results = tuple(log.result(exit_status, number) for number in range(len(commands)))
    for result in results:
        require_frames(result)
        if result.exit_status != 0 or result.num_complaints or None in (result.num_decoded, result.num_written):
            raise MfcdError(f"ffmpeg ended with status {exit_status} on several videos: {result.last_complaint}")
    return results


def _logged(commands: Sequence[EncodeCommand], deadline: Deadline, binary: str | None) -> tuple[LogReader, int]:
    log = LogReader()
    return log, run_process([binary or ffmpeg_binary(), *arguments_of(commands)], deadline, log.take)


def _run(command: EncodeCommand, deadline: Deadline, binary: str | None) -> FfmpegResult:
    log, exit_status = _logged([command], deadline, binary)
    result = log.result(exit_status)
    if result.signal is not None:
        raise KilledError(f"ffmpeg was told to end by signal {result.signal}: run again")
    cannot_write = "File too large" if exit_status == -signal.SIGXFSZ else result.cannot_write
    if exit_status != 0 and cannot_write is not None:
        raise output_error(command.target.parent, cannot_write)
    return result


def url_of(path: Path) -> str:
    """The path as ffmpeg and PyAV take it: never an option, never a protocol."""
    return f"file:{path.absolute()}"
