"""The videos that a report shows: by their scores, and of the evaluation that it tells of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mfcd_core.store import Store
from mfcd_train.evaluation import SCORES
from mfcd_train.report_videos import find_verdicts

if TYPE_CHECKING:
    from pathlib import Path

EVALUATION = {"clips": 2, "video/top1": 0.5}
SCORES_OF_DOWN = {
    "down/0": (0.9, 0.7),
    "down/1": (0.6, 0.5),
    "right/0": (0.9, 0.9),
    "right/1": (0.7, 0.5),
    "right/2": (0, 0.1),
}
"""Two clips each; two of three videos of `right` are taken for `down`."""


def write_scores(folder: Path, **changes: Any) -> None:  # noqa: ANN401
    down = np.array(list(SCORES_OF_DOWN.values()), np.float32)
    arrays = {
        "video_id": np.array(list(SCORES_OF_DOWN), str),
        "label": np.array([name.startswith("right") for name in SCORES_OF_DOWN], np.int32),
        "scores": np.stack([down, 1 - down], -1),
        "result": np.array(json.dumps(EVALUATION)),
    }
    np.savez_compressed(folder / SCORES, **(arrays | changes))


def test_the_surest_and_the_most_wrong_come_first(tiny_store: Path, tmp_path: Path) -> None:
    write_scores(tmp_path)
    found = find_verdicts(Store(tiny_store), tmp_path, EVALUATION)
    assert found
    assert [verdict.video_id for verdict in found.best] == ["right/2", "down/0", "down/1"]
    assert [verdict.video_id for verdict in found.worst] == ["right/0", "right/1"]
    worst = found.worst[0]
    assert (worst.label, worst.answer) == ("right", "down")
    assert (worst.label_score, worst.answer_score) == (pytest.approx(0.1), pytest.approx(0.9))
    assert found.confusion.startswith(b"\x89PNG")


def test_a_video_is_shown_by_its_middle_iframe(tiny_store: Path, tmp_path: Path) -> None:
    write_scores(tmp_path)
    store = Store(tiny_store)
    found = find_verdicts(store, tmp_path, EVALUATION)
    assert found
    assert (found.best[0].picture == store.read_gop("right/2", 1).rebuild_frames()[0]).all()


def test_scores_of_another_evaluation_are_not_shown(tiny_store: Path, tmp_path: Path) -> None:
    write_scores(tmp_path)
    assert find_verdicts(Store(tiny_store), tmp_path, {**EVALUATION, "clips": 3}) is None


def test_without_usable_scores_there_is_nothing_to_show(tiny_store: Path, tmp_path: Path) -> None:
    store = Store(tiny_store)
    assert find_verdicts(store, tmp_path, EVALUATION) is None
    write_scores(tmp_path)
    whole = (tmp_path / SCORES).read_bytes()
    (tmp_path / SCORES).write_bytes(whole[: len(whole) // 2])
    assert find_verdicts(store, tmp_path, EVALUATION) is None
