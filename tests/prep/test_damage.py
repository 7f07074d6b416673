from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from encoding import SMALL, num_decoded, transcode_one
from tiny_videos import cut_frames, grey_frames, write_video

from mfcd_core.errors import MfcdError, VideoError
from mfcd_prep.container_end import missing_end
from mfcd_prep.damage import PROBLEMS, find_damage, require_frames
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.ffmpeg_log import FfmpegResult

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = FfmpegResult(0, num_packets=24, num_decoded=24, num_written=24)
H264 = ("-c:v", "libx264", "-qp", "20", "-preset", "ultrafast", "-g", "12", "-threads", "1")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "2", "-threads", "1")
CENC = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
CENC += ("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")


@pytest.mark.parametrize(
    ("result", "from_header", "end", "problem"),
    [
        (WHOLE, 24, None, None),
        (WHOLE, None, None, None),
        (WHOLE, 23, None, None),
        (WHOLE, 25, None, "truncated"),
        (WHOLE, None, "3 bytes in the file", "truncated"),
        (FfmpegResult(0, 24, 23, 23, num_decode_errors=1, num_errors=2), 24, None, "damaged"),
        (FfmpegResult(0, 24, 24, 24, num_errors=2), 24, None, "damaged"),
        (FfmpegResult(0, 24, 23, 23), 24, None, None),  # a packed B-frame, or an edit list
        (FfmpegResult(0, 24, 24, 24, size_change="2x2 to 4x4"), 24, None, "size-changes"),
        (FfmpegResult(0, 20, 18, 18, num_decode_errors=2, size_change="2x2 to 4x4"), 24, None, "truncated"),
        (FfmpegResult(0, 24, 18, 18, num_decode_errors=2, size_change="2x2 to 4x4"), 24, None, "damaged"),
    ],
)
def test_the_worst_damage_gives_the_class(
    result: FfmpegResult, from_header: int | None, end: str | None, problem: str | None
) -> None:
    found = find_damage(result, from_header, end)
    assert (found and found[0]) == problem


def test_all_that_is_wrong_is_said() -> None:
    found = find_damage(FfmpegResult(0, 20, 18, 18, num_decode_errors=2, size_change="2x2 to 4x4"), 24, None)
    assert found is not None
    assert [word in found[1] for word in ("24 frames in the header, 20", "2 packets", "2x2 to 4x4")] == [True] * 3


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (FfmpegResult(69, num_packets=0, num_decoded=0), "no-frames"),
        (FfmpegResult(69, num_packets=9, num_decoded=0, num_decode_errors=9), "undecodable"),
        (FfmpegResult(0, num_packets=9, num_decoded=0), "undecodable"),
        (FfmpegResult(187, complaints=("[error] no frame",)), "undecodable"),
        (FfmpegResult(-11), "undecodable"),
        (FfmpegResult(69, num_packets=1, num_decoded=0, is_too_large=True), "too-large"),
    ],
)
def test_a_run_without_frames_has_a_class(result: FfmpegResult, problem: str) -> None:
    with pytest.raises(VideoError) as caught:
        require_frames(result)
    assert caught.value.problem == problem
    assert problem in PROBLEMS


def test_a_program_that_ends_without_a_word_says_nothing_about_the_video() -> None:
    with pytest.raises(MfcdError, match=r"status 127 and said nothing: run mfcd-prep doctor") as caught:
        require_frames(FfmpegResult(127))
    assert not isinstance(caught.value, VideoError)


def test_every_problem_is_explained_in_one_line() -> None:
    assert all(text and "\n" not in text for text in PROBLEMS.values())


@pytest.mark.parametrize("codec", [H264, MPEG4, ("-c:v", "mpeg2video")])
def test_an_encrypted_video_fails_as_such(tmp_path: Path, codec: tuple[str, ...]) -> None:
    source = write_video(tmp_path / "v.mp4", cut_frames(24), codec=(*codec, *CENC))
    record, path = transcode_one(source)
    assert (record.status, record.problem) == ("failed", "encrypted")
    assert not path.exists()


def test_a_windows_media_file_with_drm_fails_as_such(tmp_path: Path) -> None:
    protection = ("-metadata", "ASF_Protection_Type=DRM")  # what the demuxer says of a Content Encryption Object
    record, _ = transcode_one(write_video(tmp_path / "v.wmv", cut_frames(24), codec=("-c:v", "msmpeg4", *protection)))
    assert (record.status, record.problem) == ("failed", "encrypted")


def element(name: str, content: bytes) -> bytes:
    """A short element of EBML."""
    return bytes.fromhex(name) + bytes([0x80 | len(content)]) + content


def test_an_encrypted_webm_track_fails_as_such(tmp_path: Path) -> None:
    data = bytearray(
        write_video(tmp_path / "v.webm", cut_frames(24), codec=("-c:v", "libvpx", "-live", "1")).read_bytes()
    )
    encryption = element("5035", element("47e1", b"\x05") + element("47e2", b"key0"))  # AES, and which key
    encodings = element("6d80", element("6240", element("5033", b"\x01") + encryption))
    tracks = data.rindex(bytes.fromhex("1654ae6b"))
    codec = data.index(b"\x86\x85V_VP8", tracks)
    data[codec:codec] = encodings
    data[tracks + 4] += len(encodings)  # a size of one byte, and one of eight for the track in it
    data[tracks + 13] += len(encodings)
    (tmp_path / "v.webm").write_bytes(data)
    record, _ = transcode_one(tmp_path / "v.webm")
    assert (record.status, record.problem) == ("failed", "encrypted")


def test_a_video_that_is_encrypted_after_a_clear_start_fails_as_such(tmp_path: Path) -> None:
    """The first fragment of one file, the others of its encrypted twin, as streaming services deliver it."""
    fragments = (*H264, "-movflags", "frag_keyframe+empty_moov+default_base_moof")
    encrypted = write_video(tmp_path / "e.mp4", cut_frames(48), codec=(*fragments, *CENC)).read_bytes()
    clear = write_video(tmp_path / "c.mp4", cut_frames(48), codec=fragments).read_bytes()
    (start, after), (clear_start, clear_after) = ((*first_two_fragments(data),) for data in (encrypted, clear))
    (tmp_path / "v.mp4").write_bytes(encrypted[:start] + clear[clear_start:clear_after] + encrypted[after:])
    record, _ = transcode_one(tmp_path / "v.mp4")
    assert (record.status, record.problem) == ("failed", "encrypted")


def first_two_fragments(data: bytes) -> tuple[int, int]:
    """Where they start."""
    first = data.index(b"moof") - 4
    return first, data.index(b"moof", first + 8) - 4


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_a_hole_in_a_coded_picture_is_damage_where_the_decoder_says_nothing(tmp_path: Path, name: str) -> None:
    codec = ("-c:v", "libx264", "-qp", "1", "-threads", "1")
    data = bytearray(write_video(tmp_path / name, cut_frames(24), codec=codec).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    (tmp_path / name).write_bytes(data)
    record, _ = transcode_one(tmp_path / name)
    assert (record.status, record.problem) == ("ok", "damaged")
    assert "holes of zeros" in (record.damage or "")


def test_most_packets_refused_is_still_a_damaged_video(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.avi", cut_frames(60), codec=("-c:v", "mjpeg"))
    data = bytearray(source.read_bytes())
    places = [
        at for at in range(len(data) - 4) if data[at : at + 4] == b"00dc" and data[at + 8 : at + 10] == b"\xff\xd8"
    ]
    assert len(places) == 60
    for at in places[6:]:
        num_bytes = int.from_bytes(data[at + 4 : at + 8], "little")
        data[at + 8 : at + 8 + num_bytes] = bytes(num_bytes)
    source.write_bytes(data)
    record, _ = transcode_one(source)
    assert (record.status, record.problem, record.num_frames_decoded) == ("ok", "damaged", 6)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.avi", MPEG4),
        ("v.mkv", MPEG4),
        ("v.webm", ("-c:v", "libvpx", "-b:v", "1M")),
        ("v.wmv", ("-c:v", "msmpeg4")),
        ("v.ogv", ("-c:v", "libtheora", "-q:v", "9")),
        ("v.mp4", (*H264, "-movflags", "+faststart")),
        ("v.mp4", (*H264, "-movflags", "frag_keyframe+empty_moov")),
        ("v.mov", (*H264, "-movflags", "+faststart")),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.8])
def test_a_cut_file_is_kept_and_marked(tmp_path: Path, name: str, codec: tuple[str, ...], kept: float) -> None:
    whole = write_video(tmp_path / "whole" / name, cut_frames(120), codec=codec)
    assert missing_end(whole) is None
    data = whole.read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * kept)])
    record, path = transcode_one(tmp_path / name)
    assert (record.status, record.problem) == ("ok", "truncated")
    assert record.damage
    assert path.exists()
    assert record.num_frames_decoded is not None
    assert 0 < record.num_frames_decoded < 120
    assert record.num_frames_decoded == num_decoded(tmp_path / name)


@pytest.mark.parametrize("name", ["v.avi", "v.mkv", "v.mp4", "v.mov", "v.ts", "v.flv", "v.mpg", "v.gif", "v.m4v"])
def test_a_whole_file_is_not_marked(tmp_path: Path, name: str) -> None:
    record, _ = transcode_one(write_video(tmp_path / name, grey_frames(24), codec=codec_of(name)))
    assert (record.status, record.problem, record.num_frames_decoded) == ("ok", None, 24)


def codec_of(name: str) -> tuple[str, ...]:
    own = {"v.gif": "gif", "v.flv": "flv", "v.mpg": "mpeg2video", "v.ts": "mpeg2video"}
    return ("-c:v", own.get(name, "mpeg4"))


def test_an_mp4_without_its_index_is_truncated(tmp_path: Path) -> None:
    data = write_video(tmp_path / "whole.mp4", cut_frames(60)).read_bytes()
    (tmp_path / "v.mp4").write_bytes(data[: len(data) // 2])
    record, _ = transcode_one(tmp_path / "v.mp4")
    assert (record.status, record.problem) == ("failed", "truncated")
    assert f"{len(data) // 2} bytes in the file" in (record.reason or "")


def test_a_streamed_matroska_file_of_unknown_size_is_whole(tmp_path: Path) -> None:
    codec = (*MPEG4, "-f", "matroska", "-live", "1")
    record, _ = transcode_one(write_video(tmp_path / "v.mkv", grey_frames(24), codec=codec))
    assert (record.status, record.problem) == ("ok", None)


@pytest.mark.parametrize("data", [b"", b"no video\n", bytes(4096), b"RIFF", b"RIFF\0\0\0\0AVI ", b"\0\0\0\x08ftyp"])
def test_what_is_no_video_says_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(data)
    record, _ = transcode_one(tmp_path / "v.mp4")
    assert (record.status, record.problem) == ("failed", "not-a-video")


def test_too_few_frames_have_a_class_of_their_own(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", grey_frames(7))
    record, _ = transcode_one(source, EncodeSettings((64, 48), tail="drop"))
    assert (record.status, record.problem) == ("failed", "too-short")


def test_a_codec_that_nobody_knows_is_undecodable(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mp4", grey_frames(12)).read_bytes()
    at = data.index(b"avc1", data.index(b"stsd"))
    (tmp_path / "v.mp4").write_bytes(data[:at] + b"zzzz" + data[at + 4 :])
    record, _ = transcode_one(tmp_path / "v.mp4", SMALL)
    assert (record.status, record.problem) == ("failed", "undecodable")
