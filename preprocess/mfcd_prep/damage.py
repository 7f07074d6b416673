"""What can be wrong with a video: one closed set, and the rules that sort a source into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcd_core.errors import MfcdError, VideoError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mfcd_prep.ffmpeg_log import FfmpegResult

PROBLEMS: Mapping[str, str] = {
    "not-a-video": "the file cannot be opened as a video",
    "no-video-stream": "the file has no video track; sound or a cover picture alone",
    "no-frames": "there is a video track, but not one frame in it",
    "encrypted": "the frames are encrypted (DRM)",
    "undecodable": "there are frames, but no decoder gets a picture out of them",
    "too-large": "the frames are larger than is sane: a decompression bomb, or to be scaled down first",
    "too-short": "fewer frames than --tail allows",
    "off-grid": "the encoder lost a frame or left the grid of GOPs",
    "other-format": "frames of another size, codec or pixel format than the store's; run encode on it",
    "truncated": "the end of the file is missing; what is there was kept",
    "damaged": "errors while decoding; every frame that came out was kept",
    "size-changes": "the frame size changes on the way; every frame was kept, scaled to one size",
    "timeout": "took longer than --timeout; tried again with more",
    "killed": "its process was killed twice; tried again by the next run",
    "gone": "the file is not there any more",
    "unreadable": "the file could not be read; tried again by the next run",
    "error": "something unexpected; tried again by the next run",
}


def require_frames(result: FfmpegResult) -> None:
    """Look at a run of ffmpeg on a source.

    Raises:
        VideoError: it failed, or gave no frame.
        MfcdError: it ended without a word, as a program does that cannot start: this says nothing about the source.
    """
    if result.exit_status == 0 and result.num_decoded != 0:
        return
    said = result.last_complaint
    if result.is_too_large:
        raise VideoError(f"its frames are too large to decode: {said}", "too-large")
    if result.num_packets == 0:
        raise VideoError(f"no frame in the video track: {said or 'the stream is empty'}", "no-frames")
    if result.num_decoded == 0:
        raise VideoError(f"no frame could be decoded: {said or 'the decoder gave none'}", "undecodable")
    if result.exit_status > 0 and not said:
        raise MfcdError(f"ffmpeg ended with status {result.exit_status} and said nothing: run mfcd-prep doctor")
    raise VideoError(f"ffmpeg ended with status {result.exit_status}: {said or 'it said nothing'}", "undecodable")


def find_damage(
    result: FfmpegResult, num_frames_from_header: int | None, missing_end: str | None, num_with_holes: int = 0
) -> tuple[str, str] | None:
    """Why a source that decoded is not whole: the worst key of PROBLEMS, and all that is wrong in words.

    A packet without a frame is no damage: DivX and VP9 have them, and edit lists hide frames.
    """
    expected, found = num_frames_from_header or 0, result.num_packets
    wrong: list[tuple[str, str]] = []
    if found is not None and found < expected:
        wrong.append(("truncated", f"{expected} frames in the header, {found} in the file"))
    elif missing_end:
        wrong.append(("truncated", missing_end))
    if result.num_decode_errors:
        wrong.append(("damaged", f"{result.num_decode_errors} packets could not be decoded"))
    elif result.num_errors:
        wrong.append(("damaged", f"{result.num_errors} errors while decoding"))
    if num_with_holes:
        wrong.append(("damaged", f"{num_with_holes} packets have holes of zeros"))
    if result.size_change:
        wrong.append(("size-changes", f"the frame size changes from {result.size_change}"))
    return (wrong[0][0], "; ".join(text for _, text in wrong)) if wrong else None
