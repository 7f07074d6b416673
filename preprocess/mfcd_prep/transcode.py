"""One video: from a source file to a checked file of whole GOPs, or to the reason why not."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import xxhash

from mfcd_core.atomic import publish
from mfcd_core.errors import GopError, UsageError, VideoError
from mfcd_prep.bitstream import check_gop_grid, count_frames_in_header, cut_to, probe, read_picture_types
from mfcd_prep.ffmpeg import EncodeCommand, encode, ffmpeg_binary, ffmpeg_version
from mfcd_prep.manifest import VideoRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction
    from pathlib import Path

    from mfcd_core.catalog import Video
    from mfcd_prep.bitstream import SourceInfo
    from mfcd_prep.ffmpeg import FfmpegResult

MIN_SIDE_PX, MAX_SIDE_PX = 16, 4096
MAX_GOP_SIZE = 600  # the encoder lowers anything above without an error
HASH_CHUNK_BYTES = 1 << 20

# Frames to write of `num_real` decoded ones: what the user types, and the rule.
TAILS: Mapping[str, Callable[[int, int], int]] = {
    "auto": lambda num_real, gop_size: max(num_real // gop_size, 1) * gop_size,
    "drop": lambda num_real, gop_size: num_real // gop_size * gop_size,
    "pad": lambda num_real, gop_size: -(-num_real // gop_size) * gop_size,
}


@dataclass(frozen=True)
class EncodeSettings:
    """What is asked of every video.

    size: (width, height), pixels, even. gop_size: frames. quality: the encoder's quantiser, 2 (best) to 31.
    fps: resample to this rate; None keeps every frame. tail: a key of TAILS. strict: a damaged video
    counts as failed; its file stays.
    """

    size: tuple[int, int] = (256, 256)
    gop_size: int = 12
    quality: int = 2
    fps: Fraction | None = None
    tail: str = "auto"
    strict: bool = False

    def __post_init__(self) -> None:
        if any(side % 2 or not MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in self.size):
            got = "x".join(map(str, self.size))
            raise UsageError(f"size {got}: expected even sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels, as 256x256")
        if not 2 <= self.gop_size <= MAX_GOP_SIZE:
            raise UsageError(f"gop size {self.gop_size}: expected 2 to {MAX_GOP_SIZE} frames")
        if not 2 <= self.quality <= 31:
            raise UsageError(f"quality {self.quality}: expected 2 (best) to 31")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"fps {self.fps}: expected a rate above 0, up to 1000")
        if self.tail not in TAILS:
            raise UsageError(f"tail {self.tail!r}: expected one of {', '.join(TAILS)}")

    def to_dict(self) -> dict[str, Any]:
        """What the bytes of a video depend on, beside its source, as plain JSON values."""
        values = asdict(self) | {"size": list(self.size), "fps": None if self.fps is None else str(self.fps)}
        del values["strict"]
        return values


@dataclass(frozen=True)
class Transcoder:
    """Encodes one video after another into ENCODED.

    root: SOURCE. scratch: folder for unfinished files, in the file system of `encoded`.
    timeout_seconds: of one run of ffmpeg.
    """

    root: Path
    encoded: Path
    scratch: Path
    settings: EncodeSettings
    timeout_seconds: float | None = None

    def transcode(self, video: Video) -> VideoRecord:
        """Encode, check and publish `<id>.mp4`; a video that cannot be used gives a record that says why.

        Raises:
            FfmpegStoppedError, OSError: something else than the video is at fault.
        """
        record = VideoRecord(video.id, video.path, video.label, encoder=ffmpeg_version(ffmpeg_binary()))
        unfinished = self.scratch / f"{xxhash.xxh3_64_hexdigest(video.id.encode())}.mp4"
        try:
            info = probe(self.root / video.path)
            record = _with_source(record, info)
            record, finished = self._encoded(record, info, unfinished)
            self._check(record, finished)
            return self._published(record, finished)
        except VideoError as error:
            return replace(record, status="failed", reason=str(error), num_frames=None, real_frames=None, num_gops=None)
        finally:
            for path in (unfinished, _cut_path(unfinished)):
                path.unlink(missing_ok=True)

    def _encoded(self, record: VideoRecord, info: SourceInfo, unfinished: Path) -> tuple[VideoRecord, Path]:
        """Encode to `unfinished`; a tail that turns out to need padding takes a second run."""
        gop_size, source = self.settings.gop_size, self.root / record.source
        padding = gop_size - 1 if self._expects_padding(info) else 0
        record, num_written = self._run(record, self._command(source, info, unfinished, padding))
        wanted = TAILS[self.settings.tail](num_written - padding, gop_size)
        if wanted > num_written:
            padding = gop_size - 1
            record, num_written = self._run(record, self._command(source, info, unfinished, padding))
        record = self._with_counts(record, num_written - padding)
        if record.num_frames == num_written:
            return record, unfinished
        cut_to(unfinished, _cut_path(unfinished), record.num_frames or 0)
        return record, _cut_path(unfinished)

    def _expects_padding(self, info: SourceInfo) -> bool:
        num_frames = info.num_frames_from_header or math.inf
        return self.settings.tail == "pad" or (self.settings.tail == "auto" and num_frames < self.settings.gop_size)

    def _command(self, source: Path, info: SourceInfo, target: Path, num_padding: int) -> EncodeCommand:
        s = self.settings
        matrix = info.matrix_read_as
        return EncodeCommand(source, target, s.size, s.gop_size, s.quality, info.fps, s.fps, matrix, num_padding)

    def _run(self, record: VideoRecord, command: EncodeCommand) -> tuple[VideoRecord, int]:
        """Run ffmpeg; return what it said of the source and the number of frames in its output."""
        result = encode(command, self.timeout_seconds)
        record = _with_complaints(record, result)
        num_written = count_frames_in_header(command.target)
        num_kept = num_written - command.num_padding
        if command.fps is None and result.num_decoded not in (None, num_kept):
            raise VideoError(f"ffmpeg decoded {result.num_decoded} frames but kept {num_kept}: expected all of them")
        return record, num_written

    def _with_counts(self, record: VideoRecord, num_real: int) -> VideoRecord:
        gop_size = self.settings.gop_size
        num_frames = TAILS[self.settings.tail](num_real, gop_size)
        if num_frames == 0:
            raise VideoError(f"{num_real} frames, fewer than one GOP of {gop_size}: use --tail auto or --tail pad")
        real_frames = min(num_real, num_frames)
        return replace(record, num_frames=num_frames, real_frames=real_frames, num_gops=num_frames // gop_size)

    def _check(self, record: VideoRecord, path: Path) -> None:
        """Decode the finished file: its picture types are the grid, and its frames are those that were counted."""
        types = read_picture_types(path)
        check_gop_grid(types, self.settings.gop_size)
        if len(types) != record.num_frames:
            raise GopError(f"{len(types)} frames came out, expected {record.num_frames}: encode the video again")

    def _published(self, record: VideoRecord, path: Path) -> VideoRecord:
        target = self.encoded / f"{record.id}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        record = replace(record, status="ok", bytes=path.stat().st_size, xxh3_64=hash_file(path, xxhash.xxh3_64()))
        publish(path, target)
        return record


def hash_file(path: Path, digest: xxhash.xxh3_64 | xxhash.xxh3_128) -> str:
    """Feed a file to `digest` and return its hexadecimal form."""
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _cut_path(unfinished: Path) -> Path:
    return unfinished.with_suffix(".cut.mp4")


def _with_source(record: VideoRecord, info: SourceInfo) -> VideoRecord:
    return replace(
        record,
        codec=info.codec,
        width=info.width,
        height=info.height,
        sar=str(info.sar),
        fps=str(info.fps),
        matrix=info.matrix,
        matrix_read_as=info.matrix_read_as,
        range=info.range,
        pixel_format=info.pixel_format,
        num_frames_from_header=info.num_frames_from_header,
    )


def _with_complaints(record: VideoRecord, result: FfmpegResult) -> VideoRecord:
    return replace(
        record,
        rotation=result.rotation,
        num_frames_decoded=result.num_decoded,
        damage=_damage(record, result),
        num_complaints=result.num_complaints,
        last_complaint=result.last_complaint or None,
    )


def _damage(record: VideoRecord, result: FfmpegResult) -> str | None:
    """Why the source is not whole, or None. A packet without a frame is no damage: DivX and VP9 have them."""
    expected, found = record.num_frames_from_header or 0, result.num_packets
    if result.num_decode_errors:
        return f"{result.num_decode_errors} packets could not be decoded"
    if found is not None and found < expected:
        return f"{expected} frames in the header, {found} in the file"
    return f"{result.num_errors} errors while decoding" if result.num_errors else None
