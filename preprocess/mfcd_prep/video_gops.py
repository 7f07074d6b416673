"""One video straight to its GOPs: encoded into a temporary folder that goes away, extracted in memory, no store."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mfcd_core.catalog import Video
from mfcd_core.errors import VideoError
from mfcd_core.store.reader import build_gop
from mfcd_prep.bitstream import count_packets
from mfcd_prep.container_end import missing_end
from mfcd_prep.encode_settings import TAILS, EncodeSettings
from mfcd_prep.gops import GopTracer, iter_gops
from mfcd_prep.output import output_faults
from mfcd_prep.process import Deadline
from mfcd_prep.source import probe
from mfcd_prep.transcode import Transcoder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mfcd_core.gop import Gop
    from mfcd_core.store.settings import StoreSettings
    from mfcd_prep.manifest import VideoRecord


@dataclass(frozen=True)
class VideoGops:
    """The GOPs of one video, decoded and traced when they are asked for.

    num_gops: whole GOPs. real_frames: frames that do not repeat the last one, None where each GOP says so itself.
    gop_seconds: what one GOP lasts at the nominal frame rate. damage: why the source is not whole, or None.
    """

    path: Path
    settings: StoreSettings
    num_gops: int
    real_frames: int | None
    gop_seconds: float
    damage: str | None
    deadline: Deadline

    def iter_gops(self, wanted: Collection[int]) -> Iterator[Gop]:
        """Yield the GOPs of these numbers, in their order in the video. Raises VideoError and DeadlineError."""
        tracer, last, num_found = GopTracer(self.settings), max(wanted), 0
        for index, real_frames in enumerate(iter_gops(self.path, self.settings, tracer)):
            self.deadline.check()
            if index in wanted:
                num_found += 1
                yield self._gop(tracer, index, real_frames)
            if index == last:
                break
        if num_found < len(wanted):
            raise VideoError(f"{num_found} of {len(wanted)} GOPs decode: it is damaged or was cut off", "damaged")

    def _gop(self, tracer: GopTracer, index: int, real_frames: int) -> Gop:
        if self.real_frames is not None:
            real_frames = min(real_frames, self.real_frames - index * self.settings.gop_size)
        return build_gop(self.settings, {name: array.copy() for name, array in tracer.arrays.items()}, real_frames)


@contextmanager
def opened_gops(source: Path, settings: StoreSettings, timeout_seconds: float | None = None) -> Iterator[VideoGops]:
    """The GOPs of a video file as a store of `settings` would hold them, with nothing left on disk afterwards.

    The file is encoded as that store's videos were. Where those did not come from `mfcd-prep encode`, it is taken as it
    is, and has to be on their grid. timeout_seconds: that all may take until the last GOP is taken.

    Raises:
        VideoError: it cannot be used, and why.
        DeadlineError, KilledError, OutputError: something else than the video is at fault.
        UsageError: `settings.encoder` is not usable.
    """
    deadline = Deadline.after(timeout_seconds)
    if not settings.encoder:
        yield _as_it_is(source, settings, deadline)
        return
    encode_settings = EncodeSettings.from_dict(settings.encoder)
    with output_faults(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="mfcd-", ignore_cleanup_errors=True)
    with folder as scratch:
        path, record = encode_file(source, Path(scratch), encode_settings, timeout_seconds)
        rate = encode_settings.fps or Fraction(record.fps or 25)
        seconds = float(settings.gop_size / rate)
        yield VideoGops(path, settings, record.num_gops or 0, record.real_frames, seconds, record.damage, deadline)


def _as_it_is(source: Path, settings: StoreSettings, deadline: Deadline) -> VideoGops:
    info, gop_size = probe(source, deadline), settings.gop_size
    num_packets, _ = count_packets(source)
    num_frames = TAILS[settings.tail](num_packets, gop_size)
    if not num_frames:
        raise VideoError(f"{num_packets} frames, less than a GOP of {gop_size}", "too-short")
    if missing := missing_end(source):
        raise VideoError(missing, "truncated")
    return VideoGops(source, settings, num_frames // gop_size, None, float(gop_size / info.fps), None, deadline)


def encode_file(
    source: Path, scratch: Path, settings: EncodeSettings, timeout_seconds: float | None = None
) -> tuple[Path, VideoRecord]:
    """Encode one file into an empty folder, as `mfcd-prep encode` does; returns the new file and what is known of it.

    Raises VideoError with the reason why it cannot be used, and what `Transcoder.transcode` raises.
    """
    source = source.absolute()
    video = Video("video", source.name, None)
    record = Transcoder(source.parent, scratch, scratch, settings, timeout_seconds).transcode(video)
    if record.status != "ok":
        raise VideoError(record.reason or "cannot be encoded", record.problem)
    return scratch / f"{video.id}.mp4", record
