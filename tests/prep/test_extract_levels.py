"""extract at every level, and without compression: the same GOPs, and proven against their videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import h5py
import numpy as np
import pytest

from mfcd_core.store import Store
from mfcd_prep.extract import ExtractOptions, extract_videos

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_store_without_compression_is_made_and_proven(
    encoded: Path, tmp_path: Path, run_command: Callable[..., int]
) -> None:
    store = tmp_path / "store"
    assert run_command("extract", encoded, store, "--compression", "none", "--jobs", "1") == 0
    assert run_command("verify", store, "--deep", encoded, "--jobs", "1") == 0
    assert Store(store).settings.compression == "none"
    with av.open(encoded / "jump/a.mp4") as container:
        frames = list(container.decode(video=0))
    with h5py.File(store / "shard-00000.h5") as file:
        assert all(file[f"residual/{name}"].compression is None for name in ("luma", "chroma"))
        assert np.array_equal(file["iframe/luma"][:2], [frame.to_ndarray()[:48] for frame in frames[::12]])


@pytest.mark.parametrize("level", ["auto", "-7"])
def test_every_level_holds_the_same_gops(
    encoded: Path, tmp_path: Path, run_command: Callable[..., int], level: str
) -> None:
    extract_videos(encoded, tmp_path / "usual", ExtractOptions())
    assert run_command("extract", encoded, tmp_path / "store", "--level", level, "--jobs", "1") == 0
    usual, store = Store(tmp_path / "usual"), Store(tmp_path / "store")
    assert str(store.settings.level) == level
    for index in range(3):
        expected, found = (each.read_gop("run/d", index) for each in (usual, store))
        assert np.array_equal(found.motion, expected.motion)
        assert np.array_equal(found.rebuild_frames(), expected.rebuild_frames())


@pytest.mark.parametrize("level", ["23", "best", "1.5", "-8"])
def test_a_level_that_is_none_is_wrong_usage(
    encoded: Path, tmp_path: Path, run_command: Callable[..., int], level: str
) -> None:
    assert run_command("extract", encoded, tmp_path / "store", "--level", level) == 2
    assert not (tmp_path / "store").exists()
