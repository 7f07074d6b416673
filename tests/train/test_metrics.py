"""Accuracy by hand: what counts as right, and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_train.metrics import topk_accuracy, video_scores

SCORES = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.3, 0.1, 0.6]], np.float32)


@pytest.mark.parametrize(
    ("labels", "top1", "top2", "top3"),
    [
        ([2, 0, 1, 2], 1.0, 1.0, 1.0),
        ([1, 1, 2, 0], 0.0, 1.0, 1.0),
        ([0, 2, 0, 1], 0.0, 0.0, 1.0),
        ([2, 1, 0, 1], 0.25, 0.5, 1.0),
    ],
)
def test_a_label_counts_among_the_k_highest(labels: list[int], top1: float, top2: float, top3: float) -> None:
    found = [topk_accuracy(SCORES, np.array(labels, np.int32), k) for k in (1, 2, 3)]
    assert found == [top1, top2, top3]


def test_k_above_the_number_of_classes_counts_every_label() -> None:
    assert topk_accuracy(SCORES, np.array([0, 1, 2, 0], np.int32), 5) == 1.0


@pytest.mark.parametrize("label", [0, 1, 2])
def test_ties_count_against_the_label(label: int) -> None:
    scores, labels = np.full((4, 3), 1 / 3, np.float32), np.full(4, label, np.int32)
    assert [topk_accuracy(scores, labels, k) for k in (1, 2, 3)] == [0, 0, 1]


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_network_that_gives_no_numbers_is_never_right(label: int) -> None:
    scores, labels = np.full((4, 3), np.nan, np.float32), np.full(4, label, np.int32)
    assert topk_accuracy(scores, labels, 1) == 0


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 1000))
def test_chance_is_k_in_n_over_all_labels(num_classes: int, k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(num_classes).astype(np.float32)
    every = np.tile(scores, (num_classes, 1))
    accuracy = topk_accuracy(every, np.arange(num_classes, dtype=np.int32), k)
    assert accuracy == pytest.approx(min(k / num_classes, 1))


def test_clips_of_a_video_are_averaged() -> None:
    assert np.allclose(video_scores(SCORES, 2), [[0.35, 0.25, 0.4], [0.25, 0.3, 0.45]])
    assert np.array_equal(video_scores(SCORES, 1), SCORES)
    assert video_scores(SCORES, 4).shape == (1, 3)


def test_one_sure_clip_outweighs_two_that_waver() -> None:
    clips = np.array([[0.45, 0.55], [0.45, 0.55], [0.9, 0.1]], np.float32)
    label = np.zeros(3, np.int32)
    assert topk_accuracy(clips, label, 1) == pytest.approx(1 / 3)
    assert topk_accuracy(video_scores(clips, 3), label[:1], 1) == 1
