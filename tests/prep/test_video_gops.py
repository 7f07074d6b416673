"""One video straight to GOPs: those that a store would hold, and nothing left on disk."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import pan
from tiny_videos import LOSSLESS_H264, write_video

from mfcd_core.errors import DeadlineError, GopError, UsageError, VideoError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.video_gops import opened_gops

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mfcd_core.gop import Gop

NUM_FRAMES = {"a/long": 64, "a/short": 7}
ENCODED_64 = StoreSettings(64, 48, encoder=EncodeSettings(size=(64, 48)).to_dict())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of four whole GOPs and a half with hard cuts, and one of less than a GOP."""
    folder = tmp_path_factory.mktemp("sources")
    for video_id, num_frames in NUM_FRAMES.items():
        grey = pan(num_frames, 1.5, -0.75, size=(38, 50), seed=num_frames)
        frames = np.repeat(grey[..., None], 3, axis=3)
        write_video(folder / f"{video_id}.mkv", frames, fps="12", codec=LOSSLESS_H264)
    return folder


def assert_equal(found: Iterable[Gop], expected: Iterable[Gop]) -> None:
    for mine, yours in zip(found, expected, strict=True):
        assert mine.real_frames == yours.real_frames
        assert mine.pixel_format == yours.pixel_format
        assert np.array_equal(mine.motion, yours.motion)
        for name, plane in yours.residual.items():
            assert np.array_equal(mine.residual[name], plane)
            assert np.array_equal(mine.iframe[name], yours.iframe[name])


@pytest.mark.parametrize("options", [ExtractOptions(), ExtractOptions("rgb24", "integer", residual_step=1)])
@pytest.mark.parametrize("settings", [EncodeSettings((64, 48)), EncodeSettings((32, 32), 8, 5, Fraction(24), "pad")])
def test_gops_are_those_of_the_store(
    settings: EncodeSettings, options: ExtractOptions, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_videos(sources, tmp_path / "encoded", settings)
    extract_videos(tmp_path / "encoded", tmp_path / "store", options)
    store = Store(tmp_path / "store")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    for row, video_id in enumerate(NUM_FRAMES):
        stored = [store.read_gop(video_id, index) for index in range(int(store.videos.num_gops[row]))]
        with opened_gops(sources / f"{video_id}.mkv", store.settings) as gops:
            assert gops.num_gops == len(stored)
            assert gops.gop_seconds == pytest.approx(settings.gop_size / (settings.fps or 12))
            assert_equal(gops.iter_gops(range(len(stored))), stored)
            wanted = {len(stored) - 1, len(stored) // 2}
            assert_equal(gops.iter_gops(wanted), [stored[index] for index in sorted(wanted)])
    assert list(scratch.iterdir()) == []


def test_gops_stay_as_they_are_when_the_next_one_is_taken(sources: Path) -> None:
    with opened_gops(sources / "a" / "long.mkv", ENCODED_64) as gops:
        first, *_ = found = list(gops.iter_gops(range(5)))
        (again,) = gops.iter_gops({0})
    assert_equal([first], [again])
    assert not np.array_equal(found[0].iframe["luma"], found[1].iframe["luma"])


def test_a_file_on_the_grid_of_a_foreign_store_is_not_encoded_again(sources: Path, tmp_path: Path) -> None:
    encode_videos(sources, tmp_path / "encoded", EncodeSettings((64, 48)))
    with opened_gops(tmp_path / "encoded" / "a" / "long.mp4", StoreSettings(64, 48)) as gops:
        as_it_is = list(gops.iter_gops(range(gops.num_gops)))
    with opened_gops(sources / "a" / "long.mkv", ENCODED_64) as gops:
        assert_equal(as_it_is, gops.iter_gops(range(gops.num_gops)))


def test_another_grid_or_size_is_refused_where_nothing_says_how_to_encode(sources: Path) -> None:
    source = sources / "a" / "long.mkv"
    with opened_gops(source, StoreSettings(50, 38)) as gops, pytest.raises(GopError, match="on a grid of 12"):
        list(gops.iter_gops({1}))
    with opened_gops(source, StoreSettings(64, 48)) as gops, pytest.raises(VideoError, match="expected the store's"):
        list(gops.iter_gops({0}))


@pytest.mark.parametrize("encoder", [ENCODED_64.encoder, {}], ids=["encoded", "foreign"])
def test_what_is_no_video_says_so_and_leaves_nothing(
    encoder: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile '/etc/passwd'\n")
    with (
        pytest.raises(VideoError, match="cannot be read as a video"),
        opened_gops(playlist, replace(ENCODED_64, encoder=encoder)),
    ):
        pass
    assert list(scratch.iterdir()) == []


def test_time_is_up_while_gops_are_taken(sources: Path) -> None:
    with opened_gops(sources / "a" / "long.mkv", ENCODED_64, timeout_seconds=60) as gops:
        late = replace(gops, deadline=replace(gops.deadline, monotonic_end=time.monotonic() - 1))
        with pytest.raises(DeadlineError, match="raise --timeout"):
            list(late.iter_gops({0}))


@pytest.mark.parametrize(
    "encoder", [{"size": [64]}, {"size": "64x48"}, {"size": [64, 48], "fps": "fast"}, {"quality": 2}]
)
def test_settings_of_encode_that_cannot_be_are_named(encoder: dict[str, object], sources: Path) -> None:
    settings = replace(ENCODED_64, encoder=encoder)
    with pytest.raises(UsageError, match="settings of encode"), opened_gops(sources / "a" / "long.mkv", settings):
        pass


@pytest.mark.parametrize("settings", [EncodeSettings(), EncodeSettings((32, 16), 8, 5, Fraction(30000, 1001), "drop")])
def test_settings_of_encode_come_back_from_what_a_store_records(settings: EncodeSettings) -> None:
    assert EncodeSettings.from_dict(settings.to_dict()) == settings
