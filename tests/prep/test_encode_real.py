"""Encode on real videos, where they lie beside the checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import click
import numpy as np
import pytest
from tiny_videos import cut_frames, types_by_tool, write_video

from mfcd_prep import cli
from mfcd_prep.encode import encode_videos
from mfcd_prep.manifest import read_manifest
from mfcd_prep.transcode import EncodeSettings
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from pathlib import Path

from encoding import GRID, num_decoded, rgb_frames


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three videos of two classes."""
    for path, num_frames in [("run/1.avi", 24), ("run/2.mp4", 30), ("jump/3.mkv", 13)]:
        write_video(tmp_path / "source" / path, cut_frames(num_frames))
    return tmp_path / "source"


def test_real_clips_with_packed_b_frames_are_whole(real_clips: Path, tmp_path: Path) -> None:
    source = real_clips / "ut-interaction"
    paths = [sorted((source / name).glob("*.avi"))[3].relative_to(source) for name in ("hugging", "kicking")]
    (tmp_path / "list.txt").write_text("".join(f"{path} {path.parent}\n" for path in paths))
    encode_videos(source, tmp_path / "e", EncodeSettings(), lists=[tmp_path / "list.txt"])
    for record in read_manifest(tmp_path / "e").videos:
        assert record.num_frames_decoded == num_decoded(source / record.source)
        assert record.damage is None
        assert types_by_tool(tmp_path / "e" / f"{record.id}.mp4") == GRID * (record.num_frames_decoded // 12)


FAILS = {
    "derived_text_file": "cannot be read as a video",
    "exo_sample_audio_only": "no video stream",
    "exo_video_init": "no frame could be decoded",
    "moviepy_result": "cannot be read as a video",
}
DAMAGED = {
    "decord_corrupted": "1 packets could not be decoded",
    "derived_truncated_mmaction_test": "164 frames in the header",
}
# Frames by the README of the data, where it says so; the others are PyAV's count of the source.
NUM_BY_README = {
    "decord_corrupted": 49,
    "decord_video_90": 3,
    "derived_truncated_mmaction_test": 78,
    "openshot_test1": 21,
    "torchcodec_h265_video": 10,
    "mvext_vid_mpeg4_part2": 337,
}


@pytest.fixture(scope="module")
def odd(real_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoded = tmp_path_factory.mktemp("odd")
    summary = encode_videos(real_clips / "odd", encoded, EncodeSettings(), workers=OnThisMachine(2))
    assert (summary.num_encoded, len(summary.failures)) == (20, 4)
    return encoded


@pytest.mark.slow
def test_odd_videos_fail_for_their_own_reason(odd: Path) -> None:
    failed = {v.id: v.reason or "" for v in read_manifest(odd).videos if v.status == "failed"}
    assert set(failed) == set(FAILS)
    assert all(reason in failed[video_id] for video_id, reason in FAILS.items())


@pytest.mark.slow
def test_odd_videos_are_marked_where_they_are_damaged(odd: Path) -> None:
    damaged = {v.id: v.damage for v in read_manifest(odd).videos if v.status == "ok" and v.damage}
    assert set(damaged) == set(DAMAGED)
    assert all(reason in (damaged[video_id] or "") for video_id, reason in DAMAGED.items())


@pytest.mark.slow
def test_odd_videos_have_all_their_frames_on_the_grid(odd: Path, real_clips: Path) -> None:
    for record in read_manifest(odd).videos:
        if record.status != "ok":
            continue
        expected = NUM_BY_README.get(record.id) or num_decoded(real_clips / "odd" / record.source)
        assert record.num_frames_decoded == expected, record.id
        num_gops = max(expected // 12, 1)
        assert (record.num_gops, record.real_frames) == (num_gops, min(expected, 12 * num_gops)), record.id
        assert types_by_tool(odd / f"{record.id}.mp4") == GRID * num_gops, record.id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("video_id", "said"),
    [
        (
            "hmdb_6arrowswithin30seconds_shoot_bow_f_nm_np1_fr_med_3",
            {"num_frames_from_header": 82, "num_frames_decoded": 81},
        ),
        ("mmaction_demo", {"width": 340, "height": 256, "sar": "64/51"}),
        ("mmaction_demo_skeleton", {"height": 1080, "matrix_read_as": "bt709"}),
        ("decord_video_90", {"rotation": -90.0, "real_frames": 3}),
        ("exo_bear-vp9-odd-dimensions", {"width": 161, "height": 121}),
        ("exo_roadtrip-vp92-10bit", {"pixel_format": "yuv420p10le"}),
        ("imageio_cockatoo", {"pixel_format": "yuv444p"}),
        ("moviepy_bitmap", {"width": 1, "height": 1}),
        ("vpf_test_res_change", {"width": 848, "height": 464, "num_frames": 96}),
    ],
)
def test_odd_videos_are_recorded_as_the_readme_describes_them(
    odd: Path, video_id: str, said: dict[str, object]
) -> None:
    (record,) = (video for video in read_manifest(odd).videos if video.id == video_id)
    assert {key: record.to_dict()[key] for key in said} == said


@pytest.mark.slow
def test_a_size_change_in_the_middle_keeps_both_halves(odd: Path, real_clips: Path) -> None:
    with av.open(str(real_clips / "odd" / "vpf_test_res_change.h264")) as container:
        wanted = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    got = rgb_frames(odd / "vpf_test_res_change.mp4").mean(axis=(1, 2, 3))
    assert len(wanted) == len(got) == 96
    assert np.corrcoef(wanted, got)[0, 1] > 0.99


def test_every_command_and_option_explains_itself() -> None:
    for command in cli.cli.commands.values():
        assert command.help, command.name
        options = [param for param in command.params if isinstance(param, click.Option)]
        assert all(option.help for option in options), command.name
