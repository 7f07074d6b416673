"""The picture of scores over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.image import imread

from mfcd_train.timeline import WIDTH_INCHES, Timeline, write_timeline

if TYPE_CHECKING:
    from pathlib import Path


def test_classes_that_are_ahead_most_often_come_first() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.0, 0.0, 1.0]], np.float32)
    assert Timeline("v", scores, 0.5).best_classes.tolist() == [1, 2, 0]


def test_classes_that_are_never_ahead_follow_by_their_mean_and_five_are_enough() -> None:
    scores = np.array([[0.9, 0.01, 0.02, 0.05, 0.015, 0.005]], np.float32)
    assert Timeline("v", scores, 0.5).best_classes.tolist() == [0, 3, 2, 4, 1]


def test_one_panel_a_video_dark_where_the_score_is_high(tmp_path: Path) -> None:
    rising = np.stack([np.linspace(0, 1, 40), np.linspace(1, 0, 40)], axis=1).astype(np.float32)
    names = ["$x$ \\frac", "line\nbreak \u4f60\u597d " + "long" * 40]
    heights = []
    for num_videos in (1, 3):
        path = tmp_path / f"{num_videos}.png"
        write_timeline(path, [Timeline(names[1], rising, 0.48)] * num_videos, names)
        picture = imread(path)
        heights.append(picture.shape[0])
        assert picture.shape[1] == 110 * WIDTH_INCHES
    assert 2.9 < heights[1] / heights[0] < 3.1
    blue = imread(tmp_path / "1.png")[:, :, :3]
    is_dark = (blue[..., 0] < 0.2) & (blue[..., 2] > 0.3)  # of the colour map: not text, which is black
    halves = [is_dark[:, start : start + 550].sum() for start in (0, 550)]
    assert min(halves) > 500


def test_nothing_else_is_left_beside_the_picture(tmp_path: Path) -> None:
    write_timeline(tmp_path / "a.png", [Timeline("v", np.ones((1, 1), np.float32), 1.0)], ["only"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
