"""The sample videos: what is drawn, that only motion tells the classes apart, and the files they become."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from mfcd_core.errors import MfcdError, UsageError
from mfcd_prep import sample, scene
from mfcd_prep.sample import MOTIONS, render_video, write_samples
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GOP_SIZE = 12
CLASSES = list(MOTIONS)
CHANCE = 1 / len(CLASSES)
MIRROR = np.array([-1.0, 1.0, 1.0])  # horizontal flip of (x, y, log scale)


def draw_tracks(motion: str, num_tracks: int, num_frames: int) -> Floats:
    rngs = np.random.default_rng([2, CLASSES.index(motion)]).spawn(num_tracks)
    return np.stack([MOTIONS[motion](rng, num_frames) for rng in rngs])


# What is drawn


def test_same_seed_gives_same_pixels_and_another_seed_others() -> None:
    video = render_video("orbit", [1, 2, 3], (64, 48), 5)
    assert video.shape == (5, 48, 64, 3)
    assert video.dtype == np.uint8
    assert np.array_equal(video, render_video("orbit", [1, 2, 3], (64, 48), 5))
    assert not np.array_equal(video, render_video("orbit", [1, 2, 4], (64, 48), 5))


def test_one_seed_shows_the_same_scene_in_every_class() -> None:
    first_up, first_down = (render_video(motion, 5, (64, 64), 2)[0] for motion in ("up", "down"))
    assert np.array_equal(first_up, first_down)


def test_longer_videos_begin_like_shorter_ones() -> None:
    short, long = (render_video("shake", 5, (64, 64), num_frames) for num_frames in (4, 9))
    assert np.array_equal(short, long[:4])


def draw_one(state: tuple[float, float, float], seed: int = 3) -> Floats:
    """One object at `state`, in white on black: (72, 96)."""
    drawn = scene.draw_scene(np.random.default_rng(seed), 96, 72)
    picture = np.zeros((72, 96, 3), np.float32)
    white = tuple(np.concatenate([level[..., :3] * 0 + 255, level[..., 3:]], 2) for level in drawn.things[0].pyramid)
    scene._draw_thing(picture, drawn, scene.Thing(white, np.zeros(3)), np.array(state))
    return picture[..., 0].astype(np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_seam_of_the_torus_is_never_seen(axis: int) -> None:
    rng = np.random.default_rng(axis)
    for state in rng.uniform(size=(50, 3)):
        before, after = state.copy(), state.copy()
        before[axis], after[axis] = 1 - 1e-6, 1e-6
        assert np.abs(draw_one(before) - draw_one(after)).max() < 0.1


def test_objects_move_by_fractions_of_a_pixel() -> None:
    radius_px = scene.radius_of(0.5) * 72
    span_px = 96 + 2 * (scene.OUTLINE_REACH * radius_px + 1)
    pictures = [draw_one((0.5 + shift / span_px, 0.5, 0.5)) for shift in (0.0, 0.3, 1.0)]
    start, third, whole = ((picture.sum(0) @ np.arange(96)) / picture.sum() for picture in pictures)
    assert third - start == pytest.approx(0.3, abs=0.02)
    assert whole - start == pytest.approx(1.0, abs=1e-3)
    assert np.abs(pictures[2][:, 1:] - pictures[0][:, :-1]).max() < 0.1


# Only motion tells the classes apart


RULES = {  # what an eye would measure on a track of displacements (T, 3)
    "up": lambda track: track[-1, 1] - track[0, 1] < -0.1,
    "down": lambda track: track[-1, 1] - track[0, 1] > 0.1,
    "zoom_in": lambda track: track[-1, 2] - track[0, 2] > 0.1 and np.ptp(track[:, 0]) < 0.01,
    "zoom_out": lambda track: track[-1, 2] - track[0, 2] < -0.1 and np.ptp(track[:, 0]) < 0.01,
    "shake": lambda track: np.ptp(track[:, 0]) > 0.1 and np.ptp(track[:, 2]) < 0.01,
    "orbit": lambda track: np.ptp(track[:, 0]) > 0.05 and np.ptp(track[:, 2]) > 0.1,
}


@pytest.mark.parametrize("motion", MOTIONS)
def test_no_class_is_anothers_mirror_in_any_gop(motion: str) -> None:
    for track in draw_tracks(motion, 300, 48):
        for start in (0, 7, 36):
            gop = track[start : start + GOP_SIZE]
            assert [name for name, holds in RULES.items() if holds(gop)] == [motion]
            assert [name for name, holds in RULES.items() if holds(gop * MIRROR)] == [motion]


@pytest.mark.parametrize("motion", MOTIONS)
def test_states_are_uniform_at_every_frame_in_every_class(motion: str) -> None:
    tracks = draw_tracks(motion, 2000, 48)
    states = (np.random.default_rng(6).uniform(size=(2000, 1, 3)) + tracks) % 1.0
    for axis in range(3):
        for t in (0, 11, 47):
            ranked = np.sort(states[:, t, axis])
            kolmogorov_smirnov = np.abs(ranked - np.arange(2000) / 2000).max()
            assert kolmogorov_smirnov < 1.95 / np.sqrt(2000)  # one in a thousand


def draw_still(motion: str, index: int) -> NDArray[np.uint8]:
    """Frame 11, 23, 35 or 47 of a video of its own: (48, 48, 3)."""
    t = 11 + 12 * (index // 2 % 4)
    seed = [11, CLASSES.index(motion), index]
    return scene.render(seed, (48, 48), 1, lambda rng, _: MOTIONS[motion](rng, 48)[t : t + 1])[0]


def describe_still(frame: NDArray[np.uint8]) -> Floats:
    """Small picture, local contrast, histograms of levels and of edges, spectrum: all that could betray a class."""
    levels = frame / 255.0
    cells = levels.reshape(8, 6, 8, 6, 3)
    grey = levels.mean(2)
    edges = [np.histogram(np.abs(np.diff(grey, axis=axis)), 12, (0, 0.4))[0] / grey.size for axis in (0, 1)]
    histograms = [np.histogram(levels[..., channel], 16, (0, 1))[0] / grey.size for channel in range(3)]
    spectrum = np.log(np.abs(np.fft.rfft2(grey - grey.mean()))[:24, :24] + 1e-3).reshape(4, 6, 4, 6).mean((1, 3))
    parts = [cells.mean((1, 3)), cells.std((1, 3)).mean(-1), *histograms, *edges, spectrum]
    return np.concatenate([part.ravel() for part in parts])


def held_out_accuracy(features: Floats, labels: NDArray[np.int64], ridge: float) -> float:
    """Accuracy on the odd rows of a linear classifier fitted by ridge regression to the even rows."""
    scaled = (features - features[::2].mean(0)) / (features[::2].std(0) + 1e-9)
    scaled = np.column_stack([scaled, np.ones(len(scaled))])
    train, targets = scaled[::2], np.eye(len(CLASSES))[labels[::2]]
    weights = np.linalg.solve(train.T @ train + ridge * len(train) * np.eye(train.shape[1]), train.T @ targets)
    return float(((scaled[1::2] @ weights).argmax(1) == labels[1::2]).mean())


@pytest.mark.slow
def test_single_frames_carry_no_label() -> None:
    videos = [(motion, index) for motion in MOTIONS for index in range(200)]
    labels = np.array([CLASSES.index(motion) for motion, _ in videos])
    stills = np.stack([draw_still(*video) for video in videos])
    limit = CHANCE + 3 * np.sqrt(CHANCE * (1 - CHANCE) / (len(videos) // 2))
    features = np.stack([describe_still(still) for still in stills])
    for ridge in (0.01, 0.1, 1.0):  # reached 0.152, 0.155, 0.153 when written; limit 0.212
        assert held_out_accuracy(features, labels, ridge) < limit
    betrayed = (stills + 10.0 * labels[:, None, None, None]).clip(0, 255)  # a label in the light would be found
    features = np.stack([describe_still(still) for still in betrayed])
    assert held_out_accuracy(features, labels, 0.1) > limit + 0.1


def measure_motion(video: NDArray[np.uint8]) -> Floats:
    """Mean vertical speed, growth, speed along both axes, and swing, by least squares on 16x16 blocks.

    In each block I_t = -(v_x I_x + v_y I_y + growth (x I_x + y I_y)); blocks count by how much they change.
    """
    grey = video.mean(3) / 255.0
    for axis in (1, 2):
        grey = sum(np.roll(grey, k - 2, axis) * weight for k, weight in enumerate((1, 4, 6, 4, 1))) / 16
    between, change = (grey[1:] + grey[:-1]) / 2, grey[1:] - grey[:-1]
    y_slope, x_slope, change = (_split_blocks(a) for a in (*np.gradient(between, axis=(1, 2)), change))
    y, x = (place.ravel() for place in np.mgrid[:16, :16] - 7.5)
    slopes = np.stack([y_slope, x_slope, y * y_slope + x * x_slope], -1)
    normal = np.einsum("tbpi,tbpj->tbij", slopes, slopes) + np.diag([0.02, 0.02, 0.5])
    moved = -np.linalg.solve(normal, np.einsum("tbpi,tbp->tbi", slopes, change)[..., None])[..., 0]
    weight = (change**2).sum(2)
    weight /= weight.sum()
    y_speed, x_speed, growth = np.moveaxis(moved, 2, 0)
    swing = ((x_speed * weight)[4:] * (x_speed * weight)[:-4]).sum() / ((x_speed * weight) ** 2).sum()
    return np.array([*((a * weight).sum() for a in (y_speed, np.sign(growth), abs(y_speed), abs(x_speed))), swing])


def _split_blocks(a: Floats) -> Floats:
    """(T, 64, 64) -> (T, 16, 256): blocks of 16x16."""
    return a.reshape(len(a), 4, 16, 4, 16).swapaxes(2, 3).reshape(len(a), 16, 256)


@pytest.mark.slow
def test_simple_motion_in_one_gop_tells_the_classes_apart() -> None:
    videos = [(motion, index) for motion in MOTIONS for index in range(40)]
    labels = np.array([CLASSES.index(motion) for motion, _ in videos])
    gops = [render_video(motion, [12, CLASSES.index(motion), index], (64, 64), 24)[12:] for motion, index in videos]
    motion = np.stack([measure_motion(gop) for gop in gops])
    assert held_out_accuracy(motion, labels, 1e-3) > 0.7  # reached 0.867 when written
    motion[1::2] = [measure_motion(gop[:, :, ::-1]) for gop in gops[1::2]]
    assert held_out_accuracy(motion, labels, 1e-3) > 0.7  # learnt as they are, asked in the mirror


# Files


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("samples") / "videos"
    summary = write_samples(out, videos_per_class=2, size=(64, 48), num_frames=25, seed=4)
    assert summary.num_videos == 12
    assert summary.num_bytes == sum(path.stat().st_size for path in out.glob("*/*"))
    return out


def test_every_class_has_its_folder_and_nothing_else_lies_about(samples: Path) -> None:
    expected = {f"{motion}/{motion}_{index:04d}.mp4" for motion in MOTIONS for index in range(2)}
    found = {path.relative_to(samples).as_posix() for path in samples.rglob("*") if path.is_file()}
    assert found == expected | {"sample.json"}
    assert CLASSES == ["up", "down", "zoom_in", "zoom_out", "shake", "orbit"]


@pytest.mark.parametrize("motion", MOTIONS)
def test_files_are_ordinary_h264_with_b_frames(samples: Path, motion: str) -> None:
    with av.open(str(samples / motion / f"{motion}_0000.mp4")) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 30)
    kinds = [av.video.frame.PictureType(frame.pict_type).name for frame in frames]
    assert len(kinds) == 25
    assert kinds[0] == "I"
    assert kinds.count("B") > 8
    assert {(frame.width, frame.height, frame.format.name) for frame in frames} == {(64, 48, "yuv420p")}


def test_files_say_bt709_and_are(samples: Path) -> None:
    with av.open(str(samples / "up" / "up_0001.mp4")) as container:
        context = container.streams.video[0].codec_context
        decoded = np.stack([frame.to_ndarray() for frame in container.decode(video=0)])[:, :48].astype(float)
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
    rgb = render_video("up", [4, 0, 1], (64, 48), 25) / 255.0
    luma = 16 + 219 * rgb @ np.array([0.2126, 0.7152, 0.0722])
    assert abs(decoded - luma).mean() < 3
    assert abs((decoded - luma).mean()) < 0.5


def test_two_jobs_write_the_same_bytes(samples: Path, tmp_path: Path) -> None:
    write_samples(tmp_path / "two", videos_per_class=2, size=(64, 48), num_frames=25, seed=4, workers=OnThisMachine(2))
    for path in samples.rglob("*.mp4"):
        assert (tmp_path / "two" / path.relative_to(samples)).read_bytes() == path.read_bytes()


def test_a_set_can_be_written_again_and_grow_but_not_change(tmp_path: Path) -> None:
    write_samples(tmp_path, videos_per_class=1, size=(32, 32), num_frames=3)
    first = (tmp_path / "up" / "up_0000.mp4").read_bytes()
    write_samples(tmp_path, videos_per_class=2, size=(32, 32), num_frames=3)
    assert (tmp_path / "up" / "up_0000.mp4").read_bytes() == first
    assert json.loads((tmp_path / "sample.json").read_text())["videos_per_class"] == 2
    for change in ({"videos_per_class": 1}, {"seed": 1}, {"num_frames": 4}, {"size": (32, 34)}):
        with pytest.raises(UsageError, match="other settings"):
            write_samples(tmp_path, **{"videos_per_class": 2, "size": (32, 32), "num_frames": 3} | change)


@pytest.mark.parametrize("marker", [None, "", "[]", "{}", "3", '{"videos_per_class": "x"}'])
def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "holiday.mp4").touch()
    if marker is not None:
        (tmp_path / "sample.json").write_text(marker)
    with pytest.raises(UsageError, match="name another OUT"):
        write_samples(tmp_path, videos_per_class=1)
    assert not (tmp_path / "up").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="is a file"):
        write_samples(tmp_path / "out", videos_per_class=1)


@pytest.mark.parametrize(
    "setting", [{"size": (65, 64)}, {"size": (64, 8)}, {"videos_per_class": 0}, {"num_frames": 0}, {"seed": -1}]
)
def test_impossible_settings_are_refused(tmp_path: Path, setting: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        write_samples(tmp_path / "out", **setting)
    assert not (tmp_path / "out").exists()


def test_a_failing_ffmpeg_is_named_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sample.H264_WITH_B_FRAMES, "vcodec", "no-such-codec")
    with pytest.raises(MfcdError, match=r"up_0000.mp4: ffmpeg failed .*no-such-codec"):
        write_samples(tmp_path, videos_per_class=1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "sample.json"]
