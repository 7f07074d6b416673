"""mfcd-prep doctor on ffmpeg and PyAV that lack something, or do something else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import av
import imageio_ffmpeg
import numpy as np
import pytest

from mfcd_core.motion import NO_BLOCKS
from mfcd_prep import doctor_media, ffmpeg
from mfcd_prep.doctor_media import draw_pan, parse_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mfcd_prep.decode import DecodedFrame

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


@pytest.fixture
def use_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets MFCD_FFMPEG to a shell script."""

    def use(script: str) -> None:
        (tmp_path / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("MFCD_FFMPEG", str(tmp_path / "ffmpeg"))

    ffmpeg.ffmpeg_binary.cache_clear()
    yield use
    ffmpeg.ffmpeg_binary.cache_clear()


@pytest.mark.parametrize("script", ["exit 1", "echo hello", "kill -9 $$"])
def test_a_program_that_is_no_ffmpeg(use_ffmpeg: Callable[[str], None], script: str) -> None:
    use_ffmpeg(script)
    checks = (doctor_media.check_ffmpeg, doctor_media.check_formats, doctor_media.check_motion_vectors)
    for check in checks:
        verdict = check()
        assert verdict.status == "problem"
        assert verdict.remedy.startswith("unset MFCD_FFMPEG")


def test_mfcd_ffmpeg_that_is_not_there(use_ffmpeg: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    del use_ffmpeg
    monkeypatch.setenv("MFCD_FFMPEG", "/no/such/ffmpeg")
    verdict = doctor_media.check_ffmpeg()
    assert verdict.status == "problem"
    assert "'/no/such/ffmpeg'" in verdict.found


def test_an_ffmpeg_that_hangs(use_ffmpeg: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    use_ffmpeg("exec sleep 60")
    monkeypatch.setattr(doctor_media, "TIMEOUT_SECONDS", 0.2)
    assert "timed out" in doctor_media.check_ffmpeg().found


@pytest.mark.parametrize(
    ("pattern", "status", "words"),
    [
        (r" DEV.L. mpeg4 ", "problem", "lacks encoder mpeg4"),
        (r" E  *mp4 ", "problem", "lacks muxer mp4"),
        (r" wmv3 ", "warning", "cannot read wmv3:"),
        (r" matroska,webm ", "warning", "cannot read matroska:"),
        (r"no such line", "ok", "encodes mpeg4 to mp4"),
    ],
)
def test_an_ffmpeg_built_without_a_format(
    use_ffmpeg: Callable[[str], None], pattern: str, status: str, words: str
) -> None:
    use_ffmpeg(f"'{FFMPEG}' \"$@\" | sed '/{pattern}/d'")
    verdict = doctor_media.check_formats()
    assert (verdict.status, words in verdict.found) == (status, True)


@pytest.mark.parametrize(
    ("swap", "words"),
    [
        ("s/^12$/1/", "pictures IIIIIIIIIIII came out, expected one I and 11 P"),
        ("s/]scale/]hflip,scale/", "vectors (dy, dx) are (0, -4) px, drawn were (0, 4) px"),
        ("s/^-fps_mode$/-no_such_option/", "ffmpeg ended with status"),
    ],
)
def test_an_ffmpeg_that_does_something_else(use_ffmpeg: Callable[[str], None], swap: str, words: str) -> None:
    each_word = f'set -- "$@" "$(printf %s "$word" | sed \'{swap}\')"'
    use_ffmpeg(f"for word do shift; {each_word}; done; exec '{FFMPEG}' \"$@\"")
    verdict = doctor_media.check_motion_vectors()
    assert verdict.status == "problem"
    assert words in verdict.found


def test_the_drawn_texture_moves_right() -> None:
    frames = [np.frombuffer(frame, np.uint8)[: 64 * 64].reshape(64, 64) for frame in draw_pan(3)]
    assert np.array_equal(frames[2][:, 8:], frames[0][:, :-8])
    assert not np.array_equal(frames[1], frames[0])


def test_listings_of_ffmpeg_are_read() -> None:
    legend = " D..... = Decoding supported\n .E.... = Encoding supported\n -------\n"
    rows = " DEVIL. mjpeg                Motion JPEG\n D.V.L. wmv3                 WMV 9 (decoders: wmv3 )\n"
    assert parse_flags(legend + rows) == {"mjpeg": "DEVIL.", "wmv3": "D.V.L."}
    formats = "File formats:\n D. = Demuxing supported\n --\n D  matroska,webm   Matroska / WebM\n  E mp4 MP4\n"
    assert {name: flags.strip() for name, flags in parse_flags(formats).items()} == {
        "matroska": "D",
        "webm": "D",
        "mp4": "E",
    }


def test_a_pyav_without_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = av.Codec
    monkeypatch.setattr(av, "Codec", lambda name, mode: codec(f"no-{name}", mode))
    verdict = doctor_media.check_pyav()
    assert verdict.status == "problem"
    assert verdict.remedy.startswith("pip install")


def test_a_decoder_without_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = doctor_media.iter_frames

    def without_vectors(*arguments: str) -> Iterator[DecodedFrame]:
        return (replace(frame, blocks=NO_BLOCKS) for frame in decode(*arguments))

    monkeypatch.setattr(doctor_media, "iter_frames", without_vectors)
    verdict = doctor_media.check_motion_vectors()
    assert (verdict.status, "no motion vectors" in verdict.found) == ("problem", True)


def test_setpriv_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = doctor_media.check_setpriv()
    assert (verdict.status, verdict.remedy) == ("warning", "apt install util-linux")
