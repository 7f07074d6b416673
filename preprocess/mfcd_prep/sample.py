"""Writes procedural action videos whose classes differ by motion alone, as ordinary H.264 files with B-frames."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import ffmpeg
import numpy as np

from mfcd_core.console import progress
from mfcd_core.errors import MfcdError, UsageError
from mfcd_prep.ffmpeg import ffmpeg_binary
from mfcd_prep.jobs import Lost, run_tasks
from mfcd_prep.scene import LOG_SCALE_TURN, render
from mfcd_prep.workers import IN_THIS_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_prep.jobs import Outcome
    from mfcd_prep.scene import Floats
    from mfcd_prep.workers import Workers

FRAMES_PER_SECOND = 30
SMALLEST_SIDE_PX = 16
SETTINGS_FILE = "sample.json"
FORMAT_VERSION = 1  # raised with every change of a pixel
TO_BT709 = {"out_color_matrix": "bt709", "out_range": "tv", "flags": "bicubic+accurate_rnd+full_chroma_int+bitexact"}
TAGGED_BT709 = {"range": "tv", "colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
H264_WITH_B_FRAMES = {
    "format": "mp4",
    "vcodec": "libx264",
    "preset": "veryfast",
    "crf": 17,
    "bf": 2,
    "b_strategy": 0,  # always two B-frames between P-frames
    "pix_fmt": "yuv420p",
    "threads": 1,
    "flags": "+bitexact",
    "fflags": "+bitexact",
}
QUIET = ("-hide_banner", "-loglevel", "error", "-filter_threads", "1")


def _along(axis: int, positions: NDArray[np.floating]) -> Floats:
    """Move along one axis of the torus only: (T,) -> (T, 3)."""
    track = np.zeros((len(positions), 3))
    track[:, axis] = positions
    return track


def up(rng: np.random.Generator, num_frames: int) -> Floats:
    """Rise steadily: 2 to 4 % of the picture's height a frame."""
    return -down(rng, num_frames)


def down(rng: np.random.Generator, num_frames: int) -> Floats:
    """Sink steadily: 2 to 4 % of the picture's height a frame."""
    return _along(1, rng.uniform(0.018, 0.026) * np.arange(num_frames))


def zoom_in(rng: np.random.Generator, num_frames: int) -> Floats:
    """Grow steadily: 3 to 6 % a frame."""
    return _along(2, rng.uniform(0.03, 0.06) / LOG_SCALE_TURN * np.arange(num_frames))


def zoom_out(rng: np.random.Generator, num_frames: int) -> Floats:
    """Shrink steadily: 3 to 6 % a frame."""
    return -zoom_in(rng, num_frames)


def shake(rng: np.random.Generator, num_frames: int) -> Floats:
    """Swing sideways every 6 to 10 frames, by 8 to 14 % of the picture's width to each side."""
    return _along(0, rng.uniform(0.07, 0.09) * np.sin(_draw_phases(rng, (6.0, 10.0), num_frames)))


def orbit(rng: np.random.Generator, num_frames: int) -> Floats:
    """Circle in depth every 14 to 20 frames, in either sense: sideways, and by 16 to 24 % in scale a quarter later."""
    phases = rng.choice([-1.0, 1.0]) * _draw_phases(rng, (14.0, 20.0), num_frames)
    sideways = _along(0, rng.uniform(0.07, 0.1) * np.sin(phases))
    return sideways + _along(2, rng.uniform(0.16, 0.24) / LOG_SCALE_TURN * np.cos(phases))


def _draw_phases(rng: np.random.Generator, period_frames: tuple[float, float], num_frames: int) -> Floats:
    """Draw (num_frames,) angles in radians, from a random one on."""
    return 2.0 * np.pi * (rng.uniform() + np.arange(num_frames) / rng.uniform(*period_frames))


MOTIONS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "up": up,
    "down": down,
    "zoom_in": zoom_in,
    "zoom_out": zoom_out,
    "shake": shake,
    "orbit": orbit,
}
"""Class name -> (rng, num_frames) -> (num_frames, 3) displacement on the unit torus of x, y and log scale.

No motion is another's mirror image (x -> -x). A new motion goes to the end: a video's seed has its class's position.
"""


def render_video(motion: str, seed: int | list[int], size: tuple[int, int], num_frames: int) -> NDArray[np.uint8]:
    """Draw one video of class `motion`.

    `size` is (width, height) in pixels. Returns (num_frames, height, width, 3) uint8 RGB. The same arguments give the
    same pixels; the same seed shows the same objects from the same start in every class.
    """
    return render(seed, size, num_frames, MOTIONS[motion])


@dataclass(frozen=True)
class SampleSettings:
    """What decides every byte of a sample data set."""

    videos_per_class: int
    size: tuple[int, int]
    """(width, height) in pixels, even."""
    num_frames: int
    seed: int
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if any(side % 2 or side < SMALLEST_SIDE_PX for side in self.size):
            got = "x".join(map(str, self.size))
            raise UsageError(f"size {got}: expected even numbers of at least {SMALLEST_SIDE_PX}, such as 128x128")
        for name, smallest in (("videos_per_class", 1), ("num_frames", 1), ("seed", 0)):
            if getattr(self, name) < smallest:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least {smallest}")


@dataclass(frozen=True)
class SampleSummary:
    """What `write_samples` wrote."""

    out: str
    classes: tuple[str, ...]
    num_videos: int
    num_bytes: int
    settings: SampleSettings


def write_samples(
    out: Path,
    videos_per_class: int = 40,
    size: tuple[int, int] = (128, 128),
    num_frames: int = 48,
    seed: int = 0,
    workers: Workers = IN_THIS_PROCESS,
) -> SampleSummary:
    """Write OUT/<class>/<class>_0000.mp4 and so on, `videos_per_class` for each of MOTIONS, and OUT/sample.json.

    A second call with the same settings writes the same files again; with more videos a class it adds to them. Raises
    UsageError for impossible settings and for a folder that holds anything else.
    """
    settings = SampleSettings(videos_per_class, size, num_frames, seed)
    _claim_folder(out, settings)
    videos = [(name, index) for index in range(videos_per_class) for name in MOTIONS]
    num_bytes = 0
    with progress("sample", len(videos), "videos") as advance:

        def on_result(_video: tuple[str, int], outcome: Outcome[int]) -> None:
            nonlocal num_bytes
            if isinstance(outcome, Lost):
                raise MfcdError(outcome.reason)
            num_bytes += outcome.value
            advance()

        run_tasks(videos, partial(_write_video, out, settings), workers, on_result)
    return SampleSummary(str(out), tuple(MOTIONS), len(videos), num_bytes, settings)


def _claim_folder(out: Path, settings: SampleSettings) -> None:
    """Make `out` ours: it must be empty, or hold a set of the same settings that is no larger; note the settings."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: expected a folder to write videos into; name another OUT")
    if out.is_dir() and any(out.iterdir()):
        _check_settings(out, settings)
    for name in MOTIONS:
        (out / name).mkdir(parents=True, exist_ok=True)
    with _replacing(out / SETTINGS_FILE) as temporary:
        temporary.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def _check_settings(out: Path, settings: SampleSettings) -> None:
    """Refuse a folder of other files, of other settings, or of more videos than asked for."""
    wanted = json.loads(json.dumps(asdict(settings)))
    try:
        found = json.loads((out / SETTINGS_FILE).read_text(encoding="utf-8"))
        fits = found | {"videos_per_class": wanted["videos_per_class"]} == wanted
        fits = fits and found["videos_per_class"] <= wanted["videos_per_class"]
    except (OSError, ValueError, TypeError, LookupError):
        message = f"{out} is not empty and no sample set: expected an empty folder; empty it, or name another OUT"
        raise UsageError(message) from None
    if not fits:
        raise UsageError(f"{out} holds samples of other settings: {found}, expected {wanted}; name another OUT")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary name beside `target`, which takes the target's place if nothing is raised."""
    temporary = target.with_name(f".{target.name}.part")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_video(out: Path, settings: SampleSettings, video: tuple[str, int]) -> int:
    """Draw and write one video, the index-th of its motion; returns its size in bytes."""
    motion, index = video
    seed = [settings.seed, list(MOTIONS).index(motion), index]
    target = out / motion / f"{motion}_{index:04d}.mp4"
    write_h264(target, render_video(motion, seed, settings.size, settings.num_frames))
    return target.stat().st_size


def write_h264(target: Path, frames: NDArray[np.uint8]) -> None:
    """Write (T, H, W, 3) uint8 RGB as an ordinary file: H.264 with B-frames, yuv420p, BT.709 limited range.

    The same frames and the same ffmpeg give the same bytes. Raises MfcdError with ffmpeg's words if it fails.
    """
    height, width = frames.shape[1:3]
    with _replacing(target) as temporary:
        command = _command(temporary, width, height)
        done = subprocess.run(command, input=frames.tobytes(), capture_output=True, check=False)  # noqa: S603
        if done.returncode:
            reason = "; ".join(done.stderr.decode(errors="replace").split("\n")[:3]) or f"status {done.returncode}"
            raise MfcdError(
                f"{target}: ffmpeg failed ({reason.strip('; ')}); check the disk and MFCD_FFMPEG, then run again"
            )


def _command(target: Path, width: int, height: int) -> list[str]:
    """The ffmpeg command that reads rgb24 frames from its stdin."""
    frames = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=FRAMES_PER_SECOND, threads=1
    )
    converted = frames.filter("scale", **TO_BT709).filter("format", "yuv420p").filter("setparams", **TAGGED_BT709)
    written = converted.output(f"file:{target}", **H264_WITH_B_FRAMES).global_args(*QUIET)
    command: list[str] = ffmpeg.compile(written, cmd=ffmpeg_binary(), overwrite_output=True)
    return command
