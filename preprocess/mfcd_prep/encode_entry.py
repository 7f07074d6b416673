"""What the journal of encode holds of a video, and what a worker is given of it; as little to import as can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from mfcd_prep.manifest import VideoRecord
from mfcd_prep.workspace import parse_stat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mfcd_core.video import Video
    from mfcd_prep.workspace import FileStat


@dataclass(frozen=True, slots=True)
class Entry:
    """One video as the journal holds it: the result, and everything that it depends on.

    settings: digest. content: xxh3_128 of the source. input, output: as they were. timeout_seconds: what the video had.
    retry: the run is at fault, not the video: the next run tries again.
    """

    settings: str
    content: str
    input: FileStat | None
    output: FileStat | None
    record: VideoRecord
    timeout_seconds: float | None = None
    retry: bool = False

    def to_dict(self) -> dict[str, Any]:
        """A record of the journal."""
        return {
            "id": self.record.id,
            "settings": self.settings,
            "content": self.content,
            "input": self.input,
            "output": self.output,
            "timeout_seconds": self.timeout_seconds,
            "retry": self.retry,
            "record": self.record.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            settings=values["settings"],
            content=values["content"],
            input=parse_stat(values["input"]),
            output=parse_stat(values["output"]),
            record=VideoRecord.from_dict(values["record"]),
            timeout_seconds=values["timeout_seconds"],
            retry=values["retry"],
        )


@dataclass(frozen=True, slots=True)
class Todo:
    """A video that is to be encoded, why, what the journal has of it, and the size of its file in bytes."""

    video: Video
    why: str
    previous: Entry | None
    num_bytes: int
