"""Which videos a folder offers to extract: by the manifest of encode, or found and counted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from synthetic import encode, pan

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.survey import survey_encoded
from mfcd_prep.workers import IN_THIS_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UCF101_CLIP = "ucf101_v_Basketball_g01_c01.avi"


# Made by encode


def test_the_manifest_says_what_there_is(encoded: Path) -> None:
    survey = survey_encoded(encoded, "auto", IN_THIS_PROCESS)
    assert [(v.id, v.path, v.label, v.num_gops, v.real_frames) for v in survey.videos] == [
        ("jump/a", "jump/a.mp4", "jump", 2, 24),
        ("jump/b", "jump/b.mp4", "jump", 2, 24),
        ("run/c", "run/c.mp4", "run", 1, 12),
        ("run/d", "run/d.mp4", "run", 3, 36),
        ("run/e", "run/e.mp4", "run", 1, 7),
    ]
    assert (survey.size, survey.gop_size, survey.failures) == ((64, 48), 12, ())
    assert survey.classes == ("fall", "jump", "run")  # of a failed video too
    assert survey.encoder["quality"] == 2


def test_files_beside_the_manifest_are_not_taken(encoded: Path) -> None:
    shutil.copy(encoded / "run" / "c.mp4", encoded / "run" / "new.mp4")
    assert "run/new" not in [video.id for video in survey_encoded(encoded, "auto", IN_THIS_PROCESS).videos]


def test_a_folder_that_encode_did_not_finish_is_refused(
    encoded: Path, tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (encoded / "manifest.jsonl").unlink()
    assert run_command("extract", encoded, tmp_path / "store") == 2
    assert "has no manifest.jsonl: run mfcd-prep encode to its end first" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty: run mfcd-prep encode again"),
        ("{", "is damaged"),
        ('{"format": "mfcd-encoded", "version": 2}', "version 2, expected mfcd-encoded version 1"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(encoded: Path, content: str, said: str) -> None:
    (encoded / "manifest.jsonl").write_text(content)
    with pytest.raises(UsageError, match=said):
        survey_encoded(encoded, "auto", IN_THIS_PROCESS)


def test_a_manifest_does_not_lead_out_of_its_folder(encoded: Path) -> None:
    """Nothing outside the named folders is read (DESIGN 6)."""
    shutil.copy(encoded / "run" / "c.mp4", encoded.parent / "secret.mp4")
    manifest = encoded / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"id": "run/c"', '"id": "../secret"'))
    with pytest.raises(UsageError, match=r"\.\./secret"):
        survey_encoded(encoded, "auto", IN_THIS_PROCESS)


# Not made by encode


def test_a_folder_of_other_videos_is_counted_and_hashed(tmp_path: Path) -> None:
    for number, num_frames in enumerate((30, 12, 5)):
        encode(tmp_path / "walk" / f"{number}.avi", pan(num_frames, 0, 1, size=(48, 64)))
    survey = survey_encoded(tmp_path, "auto", IN_THIS_PROCESS)
    assert [(v.id, v.path, v.label, v.num_gops, v.real_frames) for v in survey.videos] == [
        ("walk/0", "walk/0.avi", "walk", 2, None),
        ("walk/1", "walk/1.avi", "walk", 1, None),
        ("walk/2", "walk/2.avi", "walk", 1, None),
    ]
    assert len({video.checksum for video in survey.videos}) == 3
    assert (survey.size, survey.gop_size, survey.encoder) == ((64, 48), 12, {})
    assert [v.num_gops for v in survey_encoded(tmp_path, "pad", IN_THIS_PROCESS).videos] == [3, 1, 1]


def test_what_does_not_open_is_a_failure_and_keeps_its_class(foreign: Path) -> None:
    (foreign / "fall").mkdir()
    (foreign / "fall" / "0.mp4").write_text("no video")
    (foreign / "notes.txt").write_text("no video either")
    survey = survey_encoded(foreign, "auto", IN_THIS_PROCESS)
    ((video_id, problem, reason, _),) = survey.failures
    assert (video_id, len(survey.videos), survey.classes) == ("fall/0", 12, ("fall", "jump", "run"))
    assert problem == "not-a-video"
    assert "cannot be read as a video" in reason


def test_one_video_of_another_size_does_not_decide_for_all(tmp_path: Path) -> None:
    """Not even the first one, and not even an odd size, that no store can have."""
    for name, size in {"0": (47, 65), "1": (48, 64), "2": (48, 64), "3": (32, 32)}.items():
        encode(tmp_path / "e" / "walk" / f"{name}.mp4", pan(12, 0, 1, size=size))
    assert survey_encoded(tmp_path / "e", "auto", IN_THIS_PROCESS).size == (64, 48)
    summary = extract_videos(tmp_path / "e", tmp_path / "store", ExtractOptions())
    assert [(failure.id, failure.problem) for failure in summary.failures] == [
        ("walk/0", "other-format"),
        ("walk/3", "other-format"),
    ]
    assert Store(tmp_path / "store").videos.ids.tolist() == ["walk/1", "walk/2"]


def test_a_file_without_its_end_does_not_count_as_whole(tmp_path: Path) -> None:
    """Cut between two packets, every frame before the cut decodes without complaint."""
    path = tmp_path / "walk" / "0.avi"
    encode(path, pan(48, 0, 1, size=(48, 64)))
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    (tmp_path / "walk" / "1.avi").write_bytes(path.read_bytes()[: places[24] - 8])
    survey = survey_encoded(tmp_path, "auto", IN_THIS_PROCESS)
    assert [video.id for video in survey.videos] == ["walk/0"]
    ((video_id, problem, reason, _),) = survey.failures
    assert (video_id, problem) == ("walk/1", "truncated")
    assert "or more by its container; run mfcd-prep encode, which keeps what is there" in reason


def test_links_out_of_the_folder_are_not_followed(foreign: Path, tmp_path: Path) -> None:
    shutil.copy(foreign / "run" / "01.mp4", tmp_path / "secret.mp4")
    (foreign / "run" / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    assert "run/link" not in [video.id for video in survey_encoded(foreign, "auto", IN_THIS_PROCESS).videos]


def test_folders_with_nothing_usable_are_refused(tmp_path: Path, run_command: Callable[..., int]) -> None:
    for folder, said in [(tmp_path / "missing", "is not a folder"), (tmp_path, "has no usable video")]:
        with pytest.raises(UsageError, match=said):
            survey_encoded(folder, "auto", IN_THIS_PROCESS)
    (tmp_path / "v.mp4").write_text("no video")
    with pytest.raises(UsageError, match=r"1 failed, first .*cannot be read as a video"):
        survey_encoded(tmp_path, "auto", IN_THIS_PROCESS)
    assert run_command("extract", tmp_path, tmp_path / "store", "--jobs", "1") == 2


# Into a store


@pytest.mark.parametrize(("tail", "num_frames"), [("auto", [5, 12, 24]), ("drop", [12, 24]), ("pad", [5, 12, 30])])
def test_tails_of_foreign_videos(tmp_path: Path, tail: str, num_frames: list[int]) -> None:
    for num in (5, 12, 30):
        encode(tmp_path / "e" / "walk" / f"{num:02}.mp4", pan(num, 1, -1, size=(48, 64)))
    summary = extract_videos(tmp_path / "e", tmp_path / "store", ExtractOptions(tail=tail))
    assert Store(tmp_path / "store").videos.num_frames.tolist() == num_frames
    assert len(summary.failures) == 3 - len(num_frames)
    assert all(
        (problem, "less than a GOP of 12; use --tail auto or pad" in reason) == ("too-short", True)
        for _, problem, reason, _ in summary.failures
    )


@pytest.mark.parametrize(("tail", "num_gops", "num_frames"), [("auto", 11, 132), ("pad", 12, 141)])
def test_ucf101_as_published_needs_no_encode(
    real_clips: Path, tmp_path: Path, tail: str, num_gops: int, num_frames: int
) -> None:
    """Xvid at 320x240, 141 frames on a grid of 12 already."""
    clip = tmp_path / "ucf" / "Basketball" / "v_Basketball_g01_c01.avi"
    clip.parent.mkdir(parents=True)
    shutil.copy(real_clips / "odd" / UCF101_CLIP, clip)
    extract_videos(clip.parents[1], tmp_path / "store", ExtractOptions(residual_step=1, tail=tail))
    store = Store(tmp_path / "store")
    assert (store.videos.num_gops.tolist(), store.videos.num_frames.tolist()) == ([num_gops], [num_frames])
    gop = store.read_gop("Basketball/v_Basketball_g01_c01", 10)
    with av.open(str(clip)) as container:
        decoded = [frame.to_ndarray()[:240] for frame in container.decode(video=0)]
    np.testing.assert_array_equal(gop.rebuild_planes()["luma"], decoded[120:132])


@pytest.mark.parametrize(
    ("size", "options", "reason"),
    [
        ((48, 64), ["-force_key_frames", "expr:eq(n,17)"], "frame 17 is I, expected P on a grid of 12"),
        ((48, 64), ["-bf", "2"], "frame 1 is B, expected P on a grid of 12"),
        ((32, 32), [], "frame 0 is 32x32, expected the store's 64x48; encode it with --size 64x48"),
    ],
    ids=["scene cut", "B-frames", "frame size"],
)
def test_a_foreign_video_that_does_not_fit_costs_itself(
    foreign: Path, tmp_path: Path, size: tuple[int, int], options: list[str], reason: str
) -> None:
    encode(foreign / "jump" / "05.mp4", pan(24, 1, 1, size=size), options=options)
    summary = extract_videos(foreign, tmp_path / "store", ExtractOptions())
    assert [failure.id for failure in summary.failures] == ["jump/05"]
    assert reason in summary.failures[0].reason
    assert (summary.num_videos, summary.exit_status) == (12, 1)
