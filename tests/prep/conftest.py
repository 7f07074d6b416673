"""A small folder of encoded videos, made once by the real encode, and what tests of stores compare."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stores import OPTIONS, files_of
from synthetic import pan
from tiny_videos import write_video

from mfcd_prep import cli
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.extract import extract_videos

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE_FRAMES = {"jump/a": 24, "jump/b": 30, "run/c": 12, "run/d": 36, "run/e": 7}


def encode_small(source: Path, encoded: Path, tail: str) -> Path:
    """Encode moving textures of SOURCE_FRAMES frames, 64x48, and a file that is no video, of a class of its own."""
    for seed, (video_id, num_frames) in enumerate(SOURCE_FRAMES.items()):
        colours = [pan(num_frames, 1 - seed, 1.5 * seed - 2, size=(48, 64), seed=3 * seed + c) for c in range(3)]
        write_video(source / f"{video_id}.mkv", np.stack(colours, axis=-1))
    (source / "fall").mkdir()
    (source / "fall" / "broken.mp4").write_text("no video")
    encode_videos(source, encoded, EncodeSettings(size=(64, 48), tail=tail))
    return encoded


@pytest.fixture(scope="session")
def encoded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by `encode --tail auto`; not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    return encode_small(folder / "source", folder / "encoded", "auto")


@pytest.fixture
def encoded(encoded_once: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return shutil.copytree(encoded_once, tmp_path / "encoded")


@pytest.fixture
def foreign(encoded_once: Path, tmp_path: Path) -> Path:
    """A folder that encode did not make: the same videos under twelve names, of two classes, without a manifest."""
    videos = sorted(encoded_once.rglob("*.mp4"))
    for number in range(12):
        target = tmp_path / "foreign" / ("jump", "run")[number % 2] / f"{number:02}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(videos[number % len(videos)], target)
    return tmp_path / "foreign"


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `mfcd-prep` with arguments in this process; returns the exit status."""

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["mfcd-prep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


@pytest.fixture
def undisturbed(foreign: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a store of `foreign` comes to."""
    extract_videos(foreign, tmp_path / "undisturbed", OPTIONS)
    return files_of(tmp_path / "undisturbed")
