"""One video: from a source file to a checked file of whole GOPs, or to the reason why not."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import xxhash

from mfcd_core.atomic import sync_file
from mfcd_core.errors import GopError, MfcdError, VideoError
from mfcd_prep.bitstream import check_gop_grid, cut_to
from mfcd_prep.container_end import missing_end
from mfcd_prep.damage import find_damage
from mfcd_prep.encode_settings import TAILS
from mfcd_prep.ffmpeg import EncodeCommand, encode, encode_together, find_ffmpeg
from mfcd_prep.hashing import hash_file
from mfcd_prep.manifest import VideoRecord
from mfcd_prep.mpeg4 import read_picture_types
from mfcd_prep.output import output_faults
from mfcd_prep.process import Deadline
from mfcd_prep.source import WITHOUT_ZEROS, count_bad_packets, probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mfcd_core.catalog import Video
    from mfcd_prep.encode_settings import EncodeSettings
    from mfcd_prep.ffmpeg import Program
    from mfcd_prep.ffmpeg_log import FfmpegResult
    from mfcd_prep.source import SourceInfo

MAX_PIXELS_TOGETHER = 1 << 23  # four frames of 1080p: what decoders and filters hold at once is some dozens of frames


@dataclass(frozen=True)
class Transcoder:
    """Encodes one video after another into ENCODED.

    root: SOURCE. scratch: folder for unfinished files, in the file system of `encoded`.
    timeout_seconds: that one video may take, all in all. ffmpeg: to encode with.
    """

    root: Path
    encoded: Path
    scratch: Path
    settings: EncodeSettings
    timeout_seconds: float | None = None
    ffmpeg: Program = field(default_factory=find_ffmpeg)

    def transcode(self, video: Video) -> VideoRecord:
        """Encode, check and publish `<id>.mp4`; a video that cannot be used gives a record that says why.

        Raises:
            DeadlineError, KilledError, OutputError, OSError: something else than the video is at fault.
        """
        with self._attempt_folder() as folder:
            return self._attempt(video, folder, Deadline.after(self.timeout_seconds)).run(video)

    def transcode_together(self, videos: Sequence[Video]) -> tuple[VideoRecord, ...]:
        """As `transcode`, with one start of ffmpeg, in the time that one video may take.

        Raises:
            MfcdError, OSError: not every one is beyond doubt. Nothing is said about any: `transcode` each by itself.
        """
        deadline = Deadline.after(self.timeout_seconds)
        with self._attempt_folder() as folder:
            attempts = [self._attempt(video, folder, deadline, n) for n, video in enumerate(videos)]
            infos = [probe(attempt.source, deadline) for attempt in attempts]
            if sum(info.width * info.height for info in infos) > MAX_PIXELS_TOGETHER:
                raise MfcdError("their frames are too large for one program")
            commands = [attempt.first_command(info) for attempt, info in zip(attempts, infos, strict=True)]
            results = encode_together(commands, deadline, self.ffmpeg.binary)
            todo = zip(attempts, videos, infos, results, strict=True)
            ended = [
                a.encoded(_with_source(a.blank_record(video), info), info, result) for a, video, info, result in todo
            ]
            return self.published(ended, deadline)

    def published(self, ended: Sequence[tuple[VideoRecord, Path]], deadline: Deadline) -> tuple[VideoRecord, ...]:
        """Check the files that are to be outputs, while the disk takes them; then put all in place."""
        with ThreadPoolExecutor(len(ended)) as disk:
            taken = [disk.submit(sync_file, path) for _, path in ended]
            records = tuple(self._checked(record, path, deadline) for record, path in ended)
            with output_faults(self.encoded):
                for (record, path), done in zip(ended, taken, strict=True):
                    done.result()
                    target = self.encoded / f"{record.id}.mp4"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)  # where a power cut undoes that, the next run misses the output
        return records

    def _checked(self, record: VideoRecord, path: Path, deadline: Deadline) -> VideoRecord:
        """Read the finished file: its picture types are the grid, and its frames are those that were counted."""
        types = read_picture_types(path, deadline)
        check_gop_grid(types, self.settings.gop_size)
        if len(types) != record.num_frames:
            raise GopError(f"{len(types)} frames came out, expected {record.num_frames}: encode the video again")
        return replace(record, status="ok", bytes=path.stat().st_size, xxh3_64=hash_file(path, xxhash.xxh3_64()))

    def _attempt(self, video: Video, folder: Path, deadline: Deadline, number: int = 0) -> _Attempt:
        return _Attempt(self, self.root / video.path, folder / f"{number}.mp4", deadline)

    @contextmanager
    def _attempt_folder(self) -> Iterator[Path]:
        """A folder of its own: a scheduler may run the same task twice at once."""
        with ExitStack() as stack:
            with output_faults(self.scratch):
                folder = TemporaryDirectory(dir=self.scratch, ignore_cleanup_errors=True)
            yield Path(stack.enter_context(folder))


@dataclass(frozen=True)
class _Attempt:
    """One video on its way through one Transcoder; ffmpeg writes to `whole`."""

    job: Transcoder
    source: Path
    whole: Path
    deadline: Deadline

    def run(self, video: Video) -> VideoRecord:
        record = self.blank_record(video)
        try:
            info = probe(self.source, self.deadline)
            record = _with_source(record, info)
            record, path = self.encoded(record, info)
            return self.job.published([(record, path)], self.deadline)[0]
        except VideoError as error:
            problem, reason = self._verdict(error)
            failed = replace(record, status="failed", reason=reason, problem=problem, damage=None)
            return replace(failed, num_frames=None, real_frames=None, num_gops=None)

    def blank_record(self, video: Video) -> VideoRecord:
        """What is known of a video before anything is done."""
        return VideoRecord(video.id, video.path, video.label, encoder=self.job.ffmpeg.version)

    def _verdict(self, error: VideoError) -> tuple[str, str]:
        """Problem and reason: a file that cannot be opened may be one whose end is missing."""
        end = missing_end(self.source) if error.problem == "not-a-video" else None
        return ("truncated", f"{error}; {end}") if end else (error.problem, str(error))

    def encoded(
        self, record: VideoRecord, info: SourceInfo, first: FfmpegResult | None = None
    ) -> tuple[VideoRecord, Path]:
        """Encode; where the header was wrong of the number of frames, that may take a second run or a cut.

        first: of `first_command`, where it was run.
        """
        gop_size, command = self.job.settings.gop_size, self.first_command(info)
        record, num_real = self._encode(record, command, first)
        wanted = TAILS[self.job.settings.tail](num_real, gop_size)
        if wanted > command.num_written(num_real):
            command = replace(command, max_frames=None, num_padding=gop_size - 1 if wanted > num_real else 0)
            record, num_real = self._encode(record, command)
        record = self._with_counts(record, num_real)
        if record.num_frames == command.num_written(num_real):
            return record, self.whole
        cut = self.whole.with_suffix(".cut.mp4")
        cut_to(self.whole, cut, record.num_frames or 0)
        return record, cut

    def first_command(self, info: SourceInfo) -> EncodeCommand:
        """What may be the only run of ffmpeg."""
        settings = self.job.settings
        padding = settings.gop_size - 1 if self._expects_padding(info) else 0
        return encode_command(self.source, info, self.whole, settings, padding)

    def _expects_padding(self, info: SourceInfo) -> bool:
        settings, num_frames = self.job.settings, info.num_frames_from_header or math.inf
        return settings.tail == "pad" or (settings.tail == "auto" and num_frames < settings.gop_size)

    def _encode(
        self, record: VideoRecord, command: EncodeCommand, result: FfmpegResult | None = None
    ) -> tuple[VideoRecord, int]:
        """Run ffmpeg, where it was not; return what it said of the source and the number of frames that there are."""
        result = result or encode(command, self.deadline, self.job.ffmpeg.binary)
        record = self._with_complaints(record, command, result)
        if result.num_written is None or result.num_decoded is None:
            raise MfcdError("ffmpeg did not say how many frames it read and wrote: run mfcd-prep doctor, or update it")
        if command.fps is not None:
            return record, result.num_written - command.num_padding
        expected = command.num_written(result.num_decoded)
        if result.num_written != expected:
            lost = f"ffmpeg decoded {result.num_decoded} frames but wrote {result.num_written}: expected {expected}"
            raise VideoError(lost, "off-grid")
        return record, result.num_decoded

    def _with_complaints(self, record: VideoRecord, command: EncodeCommand, result: FfmpegResult) -> VideoRecord:
        num_with_holes = 0
        if result.num_errors or record.codec in WITHOUT_ZEROS:
            bad = count_bad_packets(self.source, command.track_index, self.deadline)
            if bad.num_encrypted:
                raise VideoError("a part of its frames is encrypted: get a copy without DRM", "encrypted")
            num_with_holes = bad.num_with_holes if record.codec in WITHOUT_ZEROS else 0
        found = find_damage(result, record.num_frames_from_header, missing_end(self.source), num_with_holes)
        problem, damage = found or (None, None)
        return replace(
            record,
            num_frames_decoded=result.num_decoded,
            problem=problem,
            damage=damage,
            num_complaints=result.num_complaints,
            last_complaint=result.last_complaint or None,
        )

    def _with_counts(self, record: VideoRecord, num_real: int) -> VideoRecord:
        settings = self.job.settings
        num_frames = TAILS[settings.tail](num_real, settings.gop_size)
        if num_frames == 0:
            got = f"{num_real} frames, fewer than one GOP of {settings.gop_size}"
            raise VideoError(f"{got}: use --tail auto or --tail pad", "too-short")
        num_gops = num_frames // settings.gop_size
        return replace(record, num_frames=num_frames, real_frames=min(num_real, num_frames), num_gops=num_gops)


def encode_command(
    source: Path, info: SourceInfo, target: Path, settings: EncodeSettings, num_padding: int = 0
) -> EncodeCommand:
    """The one command by which a source of `info` becomes `target`."""
    return EncodeCommand(
        source=source,
        target=target,
        track_index=info.track_index,
        size=settings.size,
        gop_size=settings.gop_size,
        quality=settings.quality,
        source_fps=info.fps,
        fps=settings.fps,
        in_matrix=info.matrix_read_as,
        first_filters=info.first_filters,
        max_frames=None if num_padding else _most_frames(info, settings),
        num_padding=num_padding,
    )


def _most_frames(info: SourceInfo, settings: EncodeSettings) -> int | None:
    """What is wanted of the frames that the header says, where that is a part of them; else, and at any doubt, None."""
    if settings.fps or info.num_frames_from_header is None:
        return None
    wanted = TAILS[settings.tail](info.num_frames_from_header, settings.gop_size)
    return wanted if 0 < wanted < info.num_frames_from_header else None


def _with_source(record: VideoRecord, info: SourceInfo) -> VideoRecord:
    return replace(
        record,
        codec=info.codec,
        width=info.width,
        height=info.height,
        rotation=info.rotation,
        interlaced=info.interlaced,
        sar=str(info.sar),
        fps=str(info.fps),
        matrix=info.matrix,
        matrix_read_as=info.matrix_read_as,
        range=info.range,
        pixel_format=info.pixel_format,
        num_frames_from_header=info.num_frames_from_header,
    )
