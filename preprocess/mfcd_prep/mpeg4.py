"""Picture types as the headers of an MPEG-4 part 2 stream have them: what a decoder goes by, without decoding.

Fields in the order of ISO/IEC 14496-2, 6.2.3 (video object layer) and 6.2.5 (video object plane).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcd_core.errors import VideoError
from mfcd_prep.bitstream import opened, video_stream
from mfcd_prep.process import NO_DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_prep.process import Deadline

START = b"\x00\x00\x01"
LAYER_CODES = range(0x20, 0x30)
PICTURE = START + b"\xb6"
HEADER_BYTES = 32  # more than any of the two headers needs
CODING_TYPES = "IPBS"
EXTENDED_PIXEL_ASPECT = 15
VBV_BITS = 79
RECTANGULAR = 0


class _Bits:
    """Reads fields of `data` from the first bit on."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits, at most as many as there are."""
        if count > self._left:
            raise VideoError("its MPEG-4 headers are cut off: encode the video again", "damaged")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)


def read_picture_types(path: Path, deadline: Deadline = NO_DEADLINE) -> str:
    """One letter a coded frame of the first video track, "IPPP...", as the headers say.

    Raises:
        VideoError: it cannot be opened, a packet is cut off or has not exactly one coded picture, or it is no MPEG-4.
        DeadlineError: reading took too long.
    """
    letters: list[str] = []
    with opened(path, deadline) as container:
        stream = video_stream(container)
        time_bits = parse_time_bits(stream.codec_context.extradata or b"")
        for packet in container.demux(stream):
            if packet.size:
                deadline.check()
                if packet.is_corrupt:
                    raise VideoError(f"frame {len(letters)} is cut off: encode the video again", "damaged")
                letters.append(parse_picture_type(bytes(packet), time_bits))
    return "".join(letters)


def parse_time_bits(layer: bytes) -> int:
    """Width in bits of the time increment that each picture's header has, from the header of the video object layer."""
    starts = (i for i in range(len(layer) - 3) if layer.startswith(START, i) and layer[i + 3] in LAYER_CODES)
    start = next(starts, None)
    if start is None:
        raise VideoError("no MPEG-4 video object layer in its header: encode the video again", "damaged")
    bits = _Bits(layer[start + 4 : start + 4 + HEADER_BYTES])
    bits.take(1 + 8)  # random access, object type
    if bits.take(1):
        bits.take(4 + 3)  # version, priority
    if bits.take(4) == EXTENDED_PIXEL_ASPECT:
        bits.take(8 + 8)
    if bits.take(1):
        bits.take(2 + 1)  # chroma format, low delay
        if bits.take(1):
            bits.take(VBV_BITS)
    if bits.take(2) != RECTANGULAR:
        raise VideoError("its MPEG-4 pictures are no rectangles: encode the video again", "damaged")
    bits.take(1)  # marker
    return max((bits.take(16) - 1).bit_length(), 1)


def parse_picture_type(packet: bytes, time_bits: int) -> str:
    """I, P, B or S of a packet's one coded picture."""
    start = packet.find(PICTURE)
    if start < 0 or packet.find(PICTURE, start + 1) >= 0:
        raise VideoError("a packet without exactly one picture: encode the video again", "damaged")
    bits = _Bits(packet[start + 4 : start + 4 + HEADER_BYTES])
    letter = CODING_TYPES[bits.take(2)]
    while bits.take(1):
        pass  # whole seconds since the last picture
    bits.take(1 + time_bits + 1)  # marker, time increment, marker
    if not bits.take(1):
        raise VideoError("a picture that is not coded: encode the video again", "damaged")
    return letter
