"""Files made to reach for others, and a witness of whether anybody opened a file."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN_ACCESS, IN_OPEN = 0x1, 0x20
NEXT_FILENAME, WRITING_APP = b"\x3e\x83\xbb", b"\x57\x41"
CONTAINER_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"dinf")


class Watch:
    """Events of the kernel on one file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def was_opened(self) -> bool:
        try:
            return len(os.read(self._descriptor, 4096)) > 0
        except BlockingIOError:
            return False


@contextmanager
def watched(path: Path) -> Iterator[Watch]:
    """Watch who opens or reads `path`."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    assert descriptor >= 0
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(path), IN_ACCESS | IN_OPEN) >= 0
        yield Watch(descriptor)
    finally:
        os.close(descriptor)


def texts(secret: Path) -> dict[str, str]:
    """Playlists and session descriptions that name `secret`, by the name and by the absolute path."""
    name, whole = secret.name, secret.absolute()
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        'bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    return {
        "ffconcat": f"ffconcat version 1.0\nfile {name}\n",
        "ffconcat, absolute": f"ffconcat version 1.0\nfile '{whole}'\n",
        "HLS": hls.format(name),
        "HLS, absolute": hls.format(f"file://{whole}"),
        "DASH": dash.format(name),
        "SDP": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=control:{whole}\n",
        "RealText": f"rtsptext\r\nfile:{whole}\r\n",
        "AviSynth": f'FFVideoSource("{whole}")\n',
        "SMIL": f'<smil><body><video src="{whole}"/></body></smil>',
        "ffmetadata": f";FFMETADATA1\ntitle={whole}\n",
    }


def with_external_data(video: bytes, path: Path) -> bytes:
    """An MP4 whose first track says that its samples lie in another file (a QuickTime alias)."""
    target = os.fsencode(path.absolute())
    target += b"\0" * (len(target) % 2)
    alias = bytes(10) + b"\1v" + bytes(26) + bytes(12) + b"\1f" + bytes(62) + bytes(16)
    alias += struct.pack(">HH", 1, 1) + bytes(16) + struct.pack(">HH", 2, len(target)) + target + b"\xff\xff\0\0"
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    at = video.index(b"dref") - 4
    (size,) = struct.unpack_from(">I", video, at)
    box = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    out = bytearray(video[:at] + box + video[at + size :])
    for name in CONTAINER_BOXES:
        start = out.index(name) - 4
        struct.pack_into(">I", out, start, struct.unpack_from(">I", out, start)[0] + len(box) - size)
    return bytes(out)


def with_next_segment(video: bytes) -> tuple[bytes, str]:
    """A Matroska file that names another one as its continuation; returns that name, too."""
    at = video.index(WRITING_APP)
    num = video[at + 2] & 0x7F
    name = "s" * (num - 5) + ".mkv"
    element = NEXT_FILENAME + bytes([0x80 | (num - 1)]) + name.encode()
    return video[:at] + element + video[at + 3 + num :], name


def gif_bomb(side: int) -> bytes:
    """A GIF of some forty bytes that announces a picture of `side` x `side` pixels."""
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00;"
