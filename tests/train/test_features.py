"""Feature maps side by side: what is fed and compared is what it is said to be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from lightning_fabric import Fabric
from tiny_runs import run_command

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.evaluate import main
from mfcd_train.features import likeness, liveliest, look, picture_of_clip, picture_of_map, spread_times
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FABRIC = Fabric(accelerator="cpu")


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_maps_are_like_themselves_whatever_their_scale() -> None:
    maps = noise(5, 3, 4, 4)
    found = likeness(3 * maps + 7, maps)
    assert found
    assert found.same == pytest.approx(1, abs=1e-6)
    assert found.best == pytest.approx(1, abs=1e-6)
    assert found.match.tolist() == [0, 1, 2, 3, 4]


def test_channels_in_another_order_are_found_again() -> None:
    maps, order = noise(6, 3, 8, 8), [3, 1, 0, 5, 2, 4]
    found = likeness(maps[np.argsort(order)], maps)
    assert found
    assert found.match.tolist() == order
    assert found.best == pytest.approx(1, abs=1e-6)
    assert found.same < 0.5


def test_a_map_without_variation_is_like_none() -> None:
    maps = noise(2, 3, 4, 4)
    found = likeness(np.stack([np.full_like(maps[0], 9), maps[1]]), maps)
    assert found
    assert found.same == pytest.approx(0.5, abs=1e-6)


def test_maps_of_another_shape_are_not_compared() -> None:
    assert likeness(noise(2, 3, 4, 4), noise(2, 3, 4, 5)) is None


def test_channels_that_vary_most_come_first() -> None:
    maps = noise(4, 3, 8, 8) * np.array([1, 9, 0, 4], np.float32)[:, None, None, None] + 100
    assert liveliest(maps, 3) == [1, 3, 0]


@pytest.mark.parametrize(("num_times", "expected"), [(12, [0, 2, 4, 6, 8, 10]), (6, [0, 1, 2, 3, 4, 5]), (2, [0, 1])])
def test_times_are_spread_evenly(num_times: int, expected: list[int]) -> None:
    assert spread_times(num_times).tolist() == expected


def test_dark_is_low_and_bright_is_high() -> None:
    picture = picture_of_map(np.linspace(-5, 90, 2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4))
    brightness = picture.sum(-1, dtype=int).ravel()
    assert picture.shape == (2, 4, 4, 3)
    assert (np.diff(brightness) >= 0).mean() > 0.9
    assert (picture_of_map(np.ones((2, 4, 4), np.float32)) == picture_of_map(np.zeros((2, 4, 4), np.float32))).all()


def test_a_teacher_is_fed_the_centre_of_the_frames(tiny_store: Path, teacher_run: Path) -> None:
    store = Store(tiny_store)
    seen = look(FABRIC, open_run(teacher_run), store, "down/3", 1)
    frames = store.read_gop("down/3", 1).rebuild_frames()[:, 2:-2, 2:-2]
    assert np.abs(seen.clip.astype(int) - frames).max() <= 1
    assert {name: maps.shape[1:] for name, maps in seen.maps.items()}["conv2"] == (6, 7, 7)


def test_motion_is_drawn_as_colours() -> None:
    still = picture_of_clip(np.zeros((2, 3, 8, 8), np.float32))
    assert still.shape == (3, 8, 8, 3)
    assert (still == 255).all()


def test_a_run_of_other_classes_is_refused(tiny_store: Path, teacher_run: Path) -> None:
    run = open_run(teacher_run)
    run.facts["classes"].reverse()  # type: ignore[index]
    with pytest.raises(UsageError, match="trained on other classes"):
        look(FABRIC, run, Store(tiny_store), "down/3", 0)


def test_one_page_shows_all_runs(tiny_store: Path, teacher_run: Path, student_run: Path, tmp_path: Path) -> None:
    page = tmp_path / "features.html"
    done = run_command(
        main,
        "features",
        tiny_store,
        teacher_run,
        student_run,
        "--out",
        page,
        "--channel",
        3,
        "--device",
        "cpu",
        "--json",
    )
    assert done.status == 0, done.err
    found = json.loads(done.out)["layers"]
    assert list(found) == ["maxpool", "conv2"]
    assert found["conv2"]["teacher"] == {"same_channel": pytest.approx(1), "best_channel": pytest.approx(1)}
    assert -1 <= found["conv2"]["student"]["same_channel"] <= found["conv2"]["student"]["best_channel"] < 1
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == 2 * 6 + 2 * 2 * 6  # what is fed; two layers of one channel
    assert "channel 3" in text
    assert f'<td class="number">{found["conv2"]["student"]["same_channel"]:.2f}</td>' in text
    assert "http:" not in text
    assert "https:" not in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--gop", 1), "--gop without --video"),
        (("--video", "down/3", "--gop", 9), "GOP 9 of 'down/3': expected 0 to 1"),
        (("--video", "up/3"), "up/3"),
        (("--channel", 16), "--channel 16: maxpool has channels 0 to 15"),
    ],
)
def test_what_is_not_there_is_named(
    tiny_store: Path, teacher_run: Path, tmp_path: Path, arguments: tuple[object, ...], line: str
) -> None:
    done = run_command(main, "features", tiny_store, teacher_run, "--out", tmp_path / "page.html", *arguments)
    assert done.status == 2
    assert line in done.err
    assert not (tmp_path / "page.html").exists()
