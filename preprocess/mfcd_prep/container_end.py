"""Where a container says that it ends, against where its file ends: a cut that no decoder complains about."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import BinaryIO

MAX_BOXES = 100_000
HEAD_BYTES, TAIL_BYTES = 1 << 16, 1 << 17
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
OGG_LAST_PAGE = 4


def missing_end(path: Path) -> str | None:
    """What of its end a file lacks by its own account, or None; where a container has no account of it, None too."""
    num_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        for is_kind, announced_end in CONTAINERS.items():
            if is_kind(head):
                end = announced_end(file, num_bytes)
                return f"{num_bytes} bytes in the file, {end} or more by its container" if end > num_bytes else None
    return None


def _end_of_riff(file: BinaryIO, num_bytes: int) -> int:
    """AVI: chunks `RIFF`, the later ones of an OpenDML file included; an unfinished header has 0."""
    end = 0
    while end < num_bytes:
        file.seek(end)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if name != b"RIFF" or size in (0, 0xFFFFFFFF):
            break
        end += 8 + size
    return end


def _end_of_boxes(file: BinaryIO, num_bytes: int) -> int:
    """MP4 and MOV: boxes one after the other; size 0 is up to the end, 1 a size of 64 bits behind the name."""
    end = 0
    for _ in range(MAX_BOXES):
        file.seek(end)
        header = file.read(16).ljust(16, b"\0")
        size, name, long_size = struct.unpack(">I4sQ", header)
        size = long_size if size == 1 else size
        if end >= num_bytes or size < 8 or not name.isalnum():
            break
        end += size
    return end


def _end_of_segment(file: BinaryIO, _: int) -> int:
    """Matroska and WebM: the EBML header, then a Segment, whose size may be unknown."""
    file.seek(len(EBML))
    header_size = _read_vint(file)
    file.seek(header_size or 0, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return 0
    size = _read_vint(file)
    return 0 if size is None else file.tell() + size


def _read_vint(file: BinaryIO) -> int | None:
    """A number of EBML, None for the reserved one that means unknown."""
    first = file.read(1)
    num_more = 8 - first[0].bit_length() if first else 8
    rest = file.read(num_more)
    if num_more == 8 or len(rest) < num_more:
        return None
    value = int.from_bytes(first + rest) & ((1 << 7 * (num_more + 1)) - 1)
    return None if value == (1 << 7 * (num_more + 1)) - 1 else value


def _end_of_asf(file: BinaryIO, _: int) -> int:
    """WMV: the file size of the File Properties Object, unless it was broadcast."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    start = head.find(ASF_FILE_PROPERTIES)
    properties = head[start : start + 92]
    if start < 0 or len(properties) < 92 or properties[88] & 1:
        return 0
    return int.from_bytes(properties[40:48], "little")


def _end_of_ogg(file: BinaryIO, num_bytes: int) -> int:
    """One byte more than there is where the last page is not marked as the last of its stream."""
    file.seek(max(num_bytes - TAIL_BYTES, 0))
    tail = file.read()
    last = tail.rfind(b"OggS")
    return num_bytes + (last < 0 or not tail[last + 5 : last + 6] or not tail[last + 5] & OGG_LAST_PAGE)


CONTAINERS: Mapping[Callable[[bytes], bool], Callable[[BinaryIO, int], int]] = {
    lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ": _end_of_riff,
    lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"): _end_of_boxes,
    lambda head: head[:4] == EBML: _end_of_segment,
    lambda head: head == ASF: _end_of_asf,
    lambda head: head[:4] == b"OggS": _end_of_ogg,
}
