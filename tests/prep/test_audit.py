"""The audit: silent on what extract stores of real clips, loud on any wrong value; and residuals that pay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from synthetic import encode, encode_clip, pan, trace_file, write_store

from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.audit import audit_video

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from synthetic import StoredGop

    from mfcd_core.store.verify import Finding

REAL_CLIPS = ("hugging/set1_2_1_1.avi", "kicking/set2_27_15_2.avi", "pushing/set2_52_19_5.avi")
LOSSLESS = StoreSettings(256, 256, residual_step=1)
EVERY_STORE = [
    LOSSLESS,
    StoreSettings(256, 256, trace="integer"),
    StoreSettings(256, 256, pixel_format="rgb24", residual_step=4),
    StoreSettings(256, 256, pixel_format="rgb24", residual_step=1, trace="integer"),
]


@pytest.fixture(scope="session")
def encoded(real_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real clips, two GOPs of each, as 256x256 MPEG-4 on a grid of 12."""
    folder = tmp_path_factory.mktemp("encoded")
    return {
        clip: encode_clip(folder / f"{number}.mp4", real_clips / "ut-interaction" / clip, num_frames=24)
        for number, clip in enumerate(REAL_CLIPS)
    }


def audit(folder: Path, settings: StoreSettings, gops: Sequence[StoredGop], path: Path) -> list[Finding]:
    """Findings of a store that holds `gops` of one video, against the encoded file."""
    store = Store(write_store(folder, settings, {"walk/v": gops}))
    return list(audit_video(store, 0, path))


# Real clips


@pytest.mark.parametrize("settings", EVERY_STORE, ids=lambda s: f"{s.trace}-{s.pixel_format}-{s.residual_step}")
def test_plain_numpy_agrees_on_real_clips(encoded: dict[str, Path], tmp_path: Path, settings: StoreSettings) -> None:
    for number, path in enumerate(encoded.values()):
        gops = trace_file(path, settings)
        assert len(gops) == 2
        assert audit(tmp_path / str(number), settings, gops, path) == []


def mean_residual(path: Path, settings: StoreSettings) -> float:
    """Mean |R| on luma, in levels."""
    return float(np.mean([np.abs(gop.arrays["residual/luma"]).mean() for gop in trace_file(path, settings)]))


def mean_difference(path: Path) -> float:
    """Mean |U_t - U_0| on luma: the residual if nothing were traced."""
    with av.open(path) as container:
        luma = np.stack([frame.to_ndarray()[:256].astype(int) for frame in container.decode(video=0)])
    gops = luma.reshape(-1, 12, *luma.shape[1:])
    return float(np.abs(gops[:, 1:] - gops[:, :1]).mean())


@pytest.mark.parametrize("clip", REAL_CLIPS)
def test_tracing_pays_and_fractions_pay_more(encoded: dict[str, Path], clip: str) -> None:
    """Mean |R| of the subpel trace < of the integer trace < mean |U_t - U_0|."""
    path = encoded[clip]
    subpel, integer = (mean_residual(path, replace(LOSSLESS, trace=trace)) for trace in ("subpel", "integer"))
    assert subpel < integer < mean_difference(path)


# Planted faults

SETTINGS = StoreSettings(64, 48)


@pytest.fixture(scope="module")
def pan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("pan") / "pan.mp4", pan(24, -1.5, 2.5, size=(48, 64)))


def planted(gops: list[StoredGop], name: str, values: NDArray[Any]) -> list[StoredGop]:
    """The same GOPs with another array in the second one."""
    return [gops[0], replace(gops[1], arrays={**gops[1].arrays, name: values})]


def changed(gops: list[StoredGop], name: str, place: tuple[int, ...], by: int) -> list[StoredGop]:
    values = gops[1].arrays[name].copy()
    values[place] += by
    return planted(gops, name, values)


def test_true_data_has_no_findings(pan_file: Path, tmp_path: Path) -> None:
    assert audit(tmp_path, SETTINGS, trace_file(pan_file, SETTINGS), pan_file) == []


@pytest.mark.parametrize(
    ("name", "place", "by", "problem"),
    [
        ("motion", (4, 0, 20, 30), 1, "frame 5: motion differs from a plain re-trace at 1 pixels"),
        ("motion", (10, 1, 0, 63), -1, "frame 11: motion differs from a plain re-trace at 1 pixels"),
        ("residual/luma", (0, 47, 63), 3, "frame 1: luma misses"),
        ("residual/chroma", (10, 1, 0, 0), -3, "frame 11: chroma misses"),
        ("iframe/luma", (5, 5), 1, "I-frame luma differs"),
        ("iframe/chroma", (0, 5, 5), 1, "I-frame chroma differs"),
    ],
)
def test_one_wrong_value_is_found_and_named(
    pan_file: Path, tmp_path: Path, name: str, place: tuple[int, ...], by: int, problem: str
) -> None:
    gops = changed(trace_file(pan_file, SETTINGS), name, place, by)
    (finding,) = audit(tmp_path, SETTINGS, gops, pan_file)
    assert (finding.shard, finding.video, finding.gop_index) == ("shard-00000.h5", "walk/v", 1)
    assert finding.problem.startswith(problem)


def test_a_lossless_store_may_not_be_off_by_one(pan_file: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, residual_step=1)
    gops = changed(trace_file(pan_file, settings), "residual/luma", (6, 7, 8), 1)
    (finding,) = audit(tmp_path, settings, gops, pan_file)
    assert "frame 7: luma misses U_0(p - D) + R by 1 levels, expected at most 0" in finding.problem


@pytest.mark.parametrize("wrong", ["axes", "sign", "one frame late"])
def test_motion_of_another_convention_is_found(pan_file: Path, tmp_path: Path, wrong: str) -> None:
    gops = trace_file(pan_file, SETTINGS)
    motion = gops[1].arrays["motion"]
    values = {"axes": motion[:, ::-1], "sign": -motion, "one frame late": np.concatenate([motion[:1], motion[:-1]])}
    found = audit(tmp_path, SETTINGS, planted(gops, "motion", values[wrong]), pan_file)
    assert len(found) >= 10
    assert all("motion differs" in finding.problem and finding.gop_index == 1 for finding in found)


def test_another_trace_than_the_settings_say_is_found(pan_file: Path, tmp_path: Path) -> None:
    gops = trace_file(pan_file, replace(SETTINGS, trace="integer"))
    assert any("motion differs" in finding.problem for finding in audit(tmp_path, SETTINGS, gops, pan_file))


def test_another_video_is_found(pan_file: Path, tmp_path: Path) -> None:
    gops = trace_file(pan_file, SETTINGS)
    other = encode(tmp_path / "other.mp4", pan(24, -1.5, 2.5, size=(48, 64), seed=1))
    assert any("I-frame luma differs" in finding.problem for finding in audit(tmp_path, SETTINGS, gops, other))


@pytest.mark.parametrize(
    ("num_frames", "size", "problem"),
    [
        (12, (48, 64), "0 frames decoded, 12 stored"),
        (20, (48, 64), "8 frames decoded, 12 stored"),
        (36, (48, 64), "12 more frames than the store"),
        (24, (64, 48), "another size than 64x48"),
    ],
)
def test_a_video_of_other_length_or_size_is_found(
    pan_file: Path, tmp_path: Path, num_frames: int, size: tuple[int, int], problem: str
) -> None:
    other = encode(tmp_path / "other.mp4", pan(num_frames, -1.5, 2.5, size=size))
    found = audit(tmp_path, SETTINGS, trace_file(pan_file, SETTINGS), other)
    assert any(problem in finding.problem for finding in found), found


@pytest.mark.parametrize(("num_frames", "tail"), [(5, "auto"), (17, "pad"), (30, "auto"), (30, "drop")])
def test_tails_hold_too(tmp_path: Path, num_frames: int, tail: str) -> None:
    settings = replace(SETTINGS, tail=tail)
    path = encode(tmp_path / "v.mp4", pan(num_frames, 1, -1, size=(48, 64)))
    assert audit(tmp_path / "store", settings, trace_file(path, settings), path) == []


def test_a_file_that_is_no_video_costs_itself(pan_file: Path, tmp_path: Path) -> None:
    gops = trace_file(pan_file, SETTINGS)
    (tmp_path / "v.mp4").write_text("no video")
    for path in (tmp_path / "v.mp4", tmp_path / "missing.mp4"):
        (finding,) = audit(tmp_path, SETTINGS, gops, path)
        assert "cannot be read as a video" in finding.problem


def test_a_damaged_chunk_is_a_finding(pan_file: Path, tmp_path: Path) -> None:
    store = Store(write_store(tmp_path / "store", SETTINGS, {"walk/v": trace_file(pan_file, SETTINGS)}))
    path = tmp_path / "store" / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    data[int(store.places[1]["offset"]) + 100] ^= 1
    path.write_bytes(data)
    (finding,) = audit_video(store, 0, pan_file)
    assert "GOP 1 of 'walk/v': iframe/luma is damaged" in finding.problem
