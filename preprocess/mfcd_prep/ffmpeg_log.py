"""What ffmpeg says in its log of the source and of the output, as counts: the log itself is never kept."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

NUM_LAST_LINES = 20

_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_COMPLAINT = re.compile(r"^(?:\[[^\]]*\] )*\[(warning|error|fatal|panic)\] ")
_INPUT = re.compile(
    r"^\[in#[^\]]*\] \[verbose\] +Input stream #(\d+):\d+ \(video\): (\d+) packets read .*; (\d+) frames decoded;"
    r"(?: (\d+) decode errors)?"
)
_OUTPUT = re.compile(r"^\[out#[^\]]*\] \[verbose\] +Output stream #(\d+):0 \(video\): .*; (\d+) packets muxed")
_SIZES = re.compile(r"filter context - w: (\d+) h: (\d+) .* incoming frame - w: (\d+) h: (\d+) ")
_SIGNAL = re.compile(r"^\[info\] Exiting normally, received signal (\d+)")
_TOO_LARGE = re.compile(r"Picture size \d+x\d+ (is invalid|exceeds)|picture size too large", re.IGNORECASE)
_CORRUPT = re.compile(r"\[warning\] corrupt (input packet|decoded frame)")
_CANNOT_WRITE = re.compile(
    r"^\[(?:out#|vost#|mp4)[^\]]*\] (?:\[[^\]]*\] )*.*(No space left on device|Disk quota exceeded|File too large|"
    r"Read-only file system|Permission denied|No such file or directory|Stale file handle|Input/output error)"
)
_CANNOT_READ = re.compile(
    r"^\[in#.* \[error\] Error (?:during demuxing|opening input.*): (Input/output error|Stale file handle|"
    r"Connection timed out|Transport endpoint is not connected)"
)
_ECHO = re.compile(r"\[(vist|vost|vf|out|fc)#|Task finished|Terminating thread|Error opening|^\[(error|fatal)\]")


@dataclass(frozen=True)
class FfmpegResult:
    """How a run of ffmpeg ended.

    exit_status: 0, positive, or minus the signal. num_packets, num_decoded: read from the file, and frames that came of
    them; num_written: frames in the output; None where it did not get so far. num_decode_errors: packets that the
    decoder refused. complaints: the last errors and warnings; num_complaints: all of them, num_errors the errors, and
    warnings of corrupt packets and frames. size_change: "WxH to WxH", the first. cannot_read, cannot_write: why.
    signal: that it was told to end by.
    """

    exit_status: int
    num_packets: int | None = None
    num_decoded: int | None = None
    num_written: int | None = None
    num_decode_errors: int = 0
    num_errors: int = 0
    num_complaints: int = 0
    complaints: tuple[str, ...] = ()
    size_change: str | None = None
    is_too_large: bool = False
    cannot_read: str | None = None
    cannot_write: str | None = None
    signal: int | None = None

    @property
    def last_complaint(self) -> str:
        """What the demuxer or decoder said last; ffmpeg's own echoes of it come second."""
        said = [line for line in self.complaints if not _ECHO.search(line)] or self.complaints
        return said[-1] if said else ""


class LogReader:
    """Takes a log line by line and keeps counts."""

    def __init__(self) -> None:
        self._inputs: dict[int, tuple[int, int, int]] = {}
        self._written: dict[int, int] = {}
        self._errors = 0
        self._all = 0
        self._last: deque[str] = deque(maxlen=NUM_LAST_LINES)
        self._size_change: str | None = None
        self._is_too_large = False
        self._cannot_read: str | None = None
        self._cannot_write: str | None = None
        self._signal: int | None = None

    def take(self, line: str) -> None:
        """One line, without its end."""
        line = _ADDRESS.sub("", line)
        if complaint := _COMPLAINT.search(line):
            self._take_complaint(line, complaint[1])
        elif counts := _INPUT.search(line):
            self._inputs[int(counts[1])] = int(counts[2]), int(counts[3]), int(counts[4] or 0)
        elif written := _OUTPUT.search(line):
            self._written[int(written[1])] = int(written[2])
        elif signal := _SIGNAL.search(line):
            self._signal = int(signal[1])

    def _take_complaint(self, line: str, level: str) -> None:
        self._all += 1
        self._errors += level != "warning" or _CORRUPT.search(line) is not None
        self._last.append(line)
        sizes = _SIZES.search(line)
        if sizes and sizes.group(1, 2) != sizes.group(3, 4):
            self._size_change = self._size_change or "{}x{} to {}x{}".format(*sizes.groups())
        if fault := _CANNOT_READ.search(line):
            self._cannot_read = fault[1]
        if fault := _CANNOT_WRITE.search(line):
            self._cannot_write = fault[1]
        self._is_too_large |= _TOO_LARGE.search(line) is not None

    def result(self, exit_status: int, number: int = 0) -> FfmpegResult:
        """The counts of the whole log, of the input and the output of this number."""
        num_packets, num_decoded, num_decode_errors = self._inputs.get(number, (None, None, 0))
        return FfmpegResult(
            exit_status=exit_status,
            num_packets=num_packets,
            num_decoded=num_decoded,
            num_written=self._written.get(number),
            num_decode_errors=num_decode_errors,
            num_errors=self._errors,
            num_complaints=self._all,
            complaints=tuple(self._last),
            size_change=self._size_change,
            is_too_large=self._is_too_large,
            cannot_read=self._cannot_read,
            cannot_write=self._cannot_write,
            signal=self._signal,
        )
