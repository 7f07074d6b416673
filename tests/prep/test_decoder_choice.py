"""Which decoder a store was made with: what is refused, what is said, what is made anew."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_prep.decode import DECODERS, require_decoder
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.verify import verify_store
from mfcd_prep.workers import IN_THIS_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


P_ONLY_H264 = ("-c:v", "libx264", "-bf", "0", "-refs", "1", "-sc_threshold", "0", "-pix_fmt", "yuv420p")
SIZE = (70, 100)  # H, W: no multiples of 16
needs_mv_extractor = pytest.mark.skipif(
    find_spec("mvextractor") is None, reason="motion-vector-extractor is for Linux on x86-64 alone"
)
each_decoder = pytest.mark.parametrize("decoder", ["pyav", pytest.param("mv-extractor", marks=needs_mv_extractor)])


@needs_mv_extractor
def test_planes_are_refused_where_a_decoder_gives_rgb_alone() -> None:
    with pytest.raises(UsageError, match="yuv420p: mv-extractor gives rgb24 alone"):
        require_decoder("mv-extractor", "yuv420p")
    with pytest.raises(UsageError, match="'ffmpeg': expected one of pyav, mv-extractor"):
        require_decoder("ffmpeg", "rgb24")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfcd_prep.mv_extractor.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"no package motion-vector-extractor here .* use --decoder pyav"):
        require_decoder("mv-extractor", "rgb24")


@needs_mv_extractor
def test_a_store_tells_its_decoder_and_is_proven_with_it(encoded: Path, tmp_path: Path) -> None:
    options = {name: ExtractOptions(pixel_format="rgb24", decoder=name) for name in DECODERS}
    for name, its_options in options.items():
        assert extract_videos(encoded, tmp_path / name, its_options).exit_status == 0
        assert verify_store(tmp_path / name, encoded, IN_THIS_PROCESS).findings == ()
    ours, other = (Store(tmp_path / name) for name in DECODERS)
    assert (ours.settings.decoder, other.settings.decoder) == ("pyav", "mv-extractor")
    assert ("av" in ours.versions, "av" in other.versions) == (True, False)
    assert "motion-vector-extractor" in other.versions
    for video_id in ours.videos.ids:
        a, b = (store.read_gop(str(video_id), 0) for store in (ours, other))
        assert np.array_equal(a.motion, b.motion)
        assert np.abs(a.rebuild_frames().astype(int) - b.rebuild_frames()).max() <= 4


@needs_mv_extractor
def test_another_decoder_makes_the_shards_anew(encoded: Path, tmp_path: Path) -> None:
    first = extract_videos(encoded, tmp_path / "store", ExtractOptions(pixel_format="rgb24"))
    other = extract_videos(encoded, tmp_path / "store", ExtractOptions(pixel_format="rgb24", decoder="mv-extractor"))
    assert (other.num_shards_made, other.num_shards_kept) == (first.num_shards_made, 0)


@needs_mv_extractor
def test_the_command_takes_the_decoders_own_pixel_format(
    encoded: Path, tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("extract", encoded, tmp_path / "store", "--decoder", "mv-extractor", "--jobs", "1") == 0
    assert Store(tmp_path / "store").settings.pixel_format == "rgb24"
    arguments = ("--decoder", "mv-extractor", "--pixel-format", "yuv420p")
    assert run_command("extract", encoded, tmp_path / "other", *arguments) == 2
    assert "mv-extractor gives rgb24 alone" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
