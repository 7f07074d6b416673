"""Checks of the programs and libraries that encode and decode video."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from mfcd_core.errors import MfcdError
from mfcd_prep.decode import iter_frames
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.ffmpeg import VIDEO_DEMUXERS, encode, ffmpeg_binary, ffmpeg_version
from mfcd_prep.process import Deadline
from mfcd_prep.source import probe
from mfcd_prep.transcode import encode_command
from mfcd_prep.verdict import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mfcd_prep.verdict import Verdict

TIMEOUT_SECONDS = 30.0
# fmt: off
SOURCE_CODECS = (
    "h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video", "msmpeg4v3", "msmpeg4v2", "wmv1", "wmv2",
    "wmv3", "vc1", "flv1", "mjpeg", "gif", "theora", "h263", "dvvideo", "prores", "rawvideo",
)
# fmt: on
OTHER_FFMPEG = "unset MFCD_FFMPEG, or set it to another ffmpeg; pip install --force-reinstall imageio-ffmpeg ships one"
SIDE_PX, NUM_FRAMES, PAN_PX = 64, 12, 4


def _blames_ffmpeg(check: Callable[[], Verdict]) -> Callable[[], Verdict]:
    """What ffmpeg gives up on becomes a problem of the program."""

    @wraps(check)
    def checked() -> Verdict:
        try:
            return check()
        except (MfcdError, OSError, subprocess.TimeoutExpired) as error:
            return problem(str(error), OTHER_FFMPEG)

    return checked


@_blames_ffmpeg
def check_ffmpeg() -> Verdict:
    """The program is there, runs, and is ffmpeg."""
    binary = ffmpeg_binary()
    origin = "MFCD_FFMPEG" if os.environ.get("MFCD_FFMPEG") else "imageio-ffmpeg"
    said = _ask(binary, "-version")
    if not said.startswith("ffmpeg version "):
        first = said.strip().partition("\n")[0][:80]
        return problem(f"{binary} (from {origin}) does not run as ffmpeg, said {first!r}", OTHER_FFMPEG)
    return ok(f"{ffmpeg_version(binary)} from {origin}, {binary}")


@_blames_ffmpeg
def check_formats() -> Verdict:
    """It has the encoder and muxer that every output needs, and what reads the usual sources."""
    binary = ffmpeg_binary()
    codecs = parse_flags(_ask(binary, "-codecs"))
    missing = [] if "E" in codecs.get("mpeg4", "") else ["encoder mpeg4"]
    missing += [] if "E" in parse_flags(_ask(binary, "-muxers")).get("mp4", "") else ["muxer mp4"]
    if missing:
        return problem(f"{binary} lacks {', '.join(missing)}", OTHER_FFMPEG)
    demuxers = parse_flags(_ask(binary, "-demuxers"))
    unread = [name for name in SOURCE_CODECS if "D" not in codecs.get(name, "")]
    unread += [name for name in VIDEO_DEMUXERS if "D" not in demuxers.get(name, "")]
    if unread:
        return warning(f"cannot read {', '.join(unread)}: such videos will fail", OTHER_FFMPEG)
    return ok(f"encodes mpeg4 to mp4, reads {len(SOURCE_CODECS)} codecs and {len(VIDEO_DEMUXERS)} containers")


def check_setpriv() -> Verdict:
    """`setpriv` ties ffmpeg's life to ours."""
    found = shutil.which("setpriv")
    if found is None:
        return warning("not found: ffmpeg may outlive a run that is killed by SIGKILL", "apt install util-linux")
    return ok(found)


def check_pyav() -> Verdict:
    """PyAV is there and decodes what encode writes."""
    try:
        av.Codec("mpeg4", "r")
    except ValueError:
        return problem(
            f"{av.__version__} has no decoder for mpeg4", "pip install --force-reinstall --only-binary av av"
        )
    return ok(f"{av.__version__}, decodes mpeg4")


@_blames_ffmpeg
def check_motion_vectors() -> Verdict:
    """A texture that moves by PAN_PX a frame, encoded as `encode` does it, decodes to vectors of that length."""
    with tempfile.TemporaryDirectory(prefix="mfcd-doctor-") as folder:
        encoded = _encode_pan(Path(folder))
        frames = list(iter_frames(encoded, "yuv420p", "subpel"))
    types = "".join(frame.picture_type for frame in frames)
    if types != "I" + "P" * (NUM_FRAMES - 1):
        return problem(f"pictures {types or 'none'} came out, expected one I and {NUM_FRAMES - 1} P", OTHER_FFMPEG)
    blocks = np.concatenate([frame.blocks for frame in frames])
    if not len(blocks):
        remedy = "pip install --force-reinstall --only-binary av av"
        return problem(f"PyAV {av.__version__} gives pictures, but no motion vectors", remedy)
    dy, dx = np.median(blocks[:, 4:], axis=0) / 4
    if (dy, dx) != (0, PAN_PX):
        return problem(f"vectors (dy, dx) are ({dy:g}, {dx:g}) px, drawn were (0, {PAN_PX}) px", OTHER_FFMPEG)
    return ok(f"{NUM_FRAMES} frames encoded and decoded, vectors (dy, dx) are (0, {PAN_PX}) px as drawn")


def parse_flags(listing: str) -> dict[str, str]:
    """Name -> flags of what `ffmpeg -codecs`, `-muxers` or `-demuxers` lists; `matroska,webm` are two names."""
    lines = re.findall(r"^ ([DEVASTILd. ]{1,6}) +(\S+)", listing.partition("--\n")[2], re.MULTILINE)
    return {name: flags for flags, names in lines for name in names.split(",")}


def draw_pan(num_frames: int) -> Iterator[bytes]:
    """Planes of a coarse random texture that moves right by PAN_PX a frame and comes back on the left."""
    coarse = np.random.default_rng(0).integers(16, 236, (SIDE_PX // 8, SIDE_PX // 8), dtype=np.uint8)
    texture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    grey = np.full(SIDE_PX * SIDE_PX // 2, 128, np.uint8)
    for index in range(num_frames):
        yield np.roll(texture, PAN_PX * index, axis=1).tobytes() + grey.tobytes()


def _encode_pan(folder: Path) -> Path:
    raw, source, encoded = folder / "pan.yuv", folder / "pan.avi", folder / "pan.mp4"
    raw.write_bytes(b"".join(draw_pan(NUM_FRAMES)))
    shape = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{SIDE_PX}x{SIDE_PX}")
    _ask(ffmpeg_binary(), "-v", "error", *shape, "-i", str(raw), "-c:v", "rawvideo", str(source))
    settings = EncodeSettings((SIDE_PX, SIDE_PX), NUM_FRAMES)
    encode(encode_command(source, probe(source), encoded, settings), Deadline.after(TIMEOUT_SECONDS))
    return encoded


def _ask(binary: str, *arguments: str) -> str:
    """What ffmpeg says on stdout."""
    command = [binary, "-hide_banner", "-nostdin", *arguments]
    asked = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)  # noqa: S603, no shell
    return asked.stdout.decode("utf-8", "replace")
