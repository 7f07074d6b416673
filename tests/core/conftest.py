"""A small store of noise: five videos in three shards, a short GOP, ids beyond ASCII."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from synthetic import random_gop, write_store

from mfcd_core.store.settings import StoreSettings

if TYPE_CHECKING:
    from pathlib import Path

    from synthetic import StoredGop

NUM_GOPS = {"jump/a": 2, "jump/b c": 1, "walk/ü-跳": 3, "walk/v": 2, "y": 1}


@pytest.fixture(scope="session")
def settings() -> StoreSettings:
    return StoreSettings(width_px=32, height_px=16, gop_size=4)


@pytest.fixture(scope="session")
def videos(settings: StoreSettings) -> dict[str, list[StoredGop]]:
    """What the store was written from; the last video has one GOP of which 3 frames are real."""
    rng = np.random.default_rng(0)
    gops = {video_id: [random_gop(settings, rng) for _ in range(num)] for video_id, num in NUM_GOPS.items()}
    gops["y"] = [random_gop(settings, rng, real_frames=3)]
    return gops


@pytest.fixture(scope="session")
def _pristine(
    tmp_path_factory: pytest.TempPathFactory, settings: StoreSettings, videos: dict[str, list[StoredGop]]
) -> Path:
    splits = {"first": {"train": ["jump/a", "walk/v"], "test": ["walk/ü-跳"]}}
    return write_store(tmp_path_factory.mktemp("pristine") / "store", settings, videos, splits)


@pytest.fixture
def store_folder(_pristine: Path, tmp_path: Path) -> Path:
    """A copy of the store that the test may damage."""
    return shutil.copytree(_pristine, tmp_path / "store")
