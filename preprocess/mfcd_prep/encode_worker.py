"""The work of one task of encode, in whatever process: videos, and what the journal is to keep of them.

Every worker process imports this anew: nothing here may need NumPy or anything else that takes long to import.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import xxhash

from mfcd_core.errors import DeadlineError, MfcdError
from mfcd_prep.encode_entry import Entry
from mfcd_prep.hashing import hash_file
from mfcd_prep.manifest import VideoRecord
from mfcd_prep.process import Deadline
from mfcd_prep.workers import hard_limit
from mfcd_prep.workspace import file_stat, require_present, source_stat

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_prep.encode_entry import Todo
    from mfcd_prep.encode_groups import Group
    from mfcd_prep.encode_settings import EncodeSettings
    from mfcd_prep.ffmpeg import Program
    from mfcd_prep.transcode import Transcoder
    from mfcd_prep.workspace import FileStat


@dataclass(frozen=True)
class EncodeWorker:
    """The work of one task, in whatever process; what it returns is what the journal keeps.

    root, encoded, scratch, settings, timeout_seconds: see `Transcoder`. digest: stands for the settings. ffmpeg: to
    encode with, None is the one of the machine where the worker is.
    """

    root: Path
    encoded: Path
    scratch: Path
    settings: EncodeSettings
    digest: str
    timeout_seconds: float | None
    ffmpeg: Program | None

    def __call__(self, group: Group) -> tuple[Entry, ...]:
        """Encode the videos of a group; one by itself is not, where source and output have the bytes of the journal.

        Raises:
            SourceError: the whole of SOURCE is gone.
            FileNotFoundError: this source is.
            MfcdError: it was not the same from beginning to end; nothing is said about it. Of several videos: one of
                them is not beyond doubt; nothing is said about any.
        """
        return self._together(group) if len(group) > 1 else (self._alone(group[0]),)

    def _together(self, group: Group) -> tuple[Entry, ...]:
        sources = [self._source(todo) for todo in group]
        stats = [source_stat(source) for source in sources]
        deadline = Deadline.after(self.timeout_seconds)
        contents = [hash_file(source, xxhash.xxh3_128(), deadline) for source in sources]
        with hard_limit(self.timeout_seconds):
            records = self._transcoder().transcode_together([todo.video for todo in group])
        known = zip(group, contents, stats, records, strict=True)
        return tuple(self._entry(todo, content, stat, record) for todo, content, stat, record in known)

    def _alone(self, todo: Todo) -> Entry:
        source = self._source(todo)
        target = self._target(todo)
        input_now = source_stat(source)
        if input_now is None:
            require_present(self.root)
            raise FileNotFoundError(f"{todo.video.path} is gone: was it moved?")
        content = ""
        try:
            content = hash_file(source, xxhash.xxh3_128(), Deadline.after(self.timeout_seconds))
            if todo.previous is not None and self._still_holds(todo.previous, content, target):
                return replace(todo.previous, input=input_now, output=file_stat(target))
            with hard_limit(self.timeout_seconds):
                record = self._transcoder().transcode(todo.video)
        except DeadlineError as error:
            video = todo.video
            record = VideoRecord(video.id, video.path, video.label, reason=str(error), problem="timeout")
        return self._entry(todo, content, input_now, record)

    def _transcoder(self) -> Transcoder:
        from mfcd_prep.ffmpeg import find_ffmpeg  # noqa: PLC0415, whoever hands out the tasks needs no decoder
        from mfcd_prep.transcode import Transcoder  # noqa: PLC0415, as above

        program = self.ffmpeg or find_ffmpeg()
        return Transcoder(self.root, self.encoded, self.scratch, self.settings, self.timeout_seconds, program)

    def _source(self, todo: Todo) -> Path:
        return self.root / todo.video.path

    def _target(self, todo: Todo) -> Path:
        return self.encoded / f"{todo.video.id}.mp4"

    def _entry(self, todo: Todo, content: str, input_now: FileStat | None, record: VideoRecord) -> Entry:
        """What to keep, where the source is what it was."""
        target = self._target(todo)
        if source_stat(self._source(todo)) != input_now:
            require_present(self.root)
            raise MfcdError(f"{todo.video.path} changed or went away while it was read: run again")
        if record.status != "ok":
            target.unlink(missing_ok=True)  # of other settings, or of what the source was before
        output = file_stat(target) if record.status == "ok" else None
        return Entry(self.digest, content, input_now, output, record, self.timeout_seconds)

    def _still_holds(self, previous: Entry, content: str, target: Path) -> bool:
        if previous.retry or (previous.settings, previous.content) != (self.digest, content):
            return False
        if previous.record.status != "ok":
            return previous.record.problem != "timeout"
        return target.is_file() and hash_file(target, xxhash.xxh3_64()) == previous.record.xxh3_64
