"""`mfcd-bench train`: who takes which step, and what is made of it; no test of speed."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
import torch
from click.testing import CliRunner

from mfcd_core.bench import Run
from mfcd_core.store import Store
from mfcd_train import bench_train
from mfcd_train.bench_train import EAGER, FED, FORMS, LIMITS, OURS, Feed, Stepper, noise, summarize, train
from mfcd_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from mfcd_train.config import Recipe

CPU = torch.device("cpu")
SMALL = ["data.frame_size=32", "data.crop_size=28", "data.batch_size=2"]
FACTS = {"steps": 2, "batch_size": 5, "device": "cpu"}


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("demo-teacher", SMALL)


def test_all_forms_learn_the_same(recipe: Recipe) -> None:
    """From the same weights and clips, every form takes its first two steps to much the same place."""
    moved = {}
    clips = noise(recipe, 12, CPU)
    for name, form in FORMS.items():
        stepper = Stepper(recipe, form, CPU)
        before = stepper._network.conv1.conv.weight.detach().clone()
        stepper.take([clips, clips])
        assert stepper.num_broken == 0
        moved[name] = (stepper._network.conv1.conv.weight.detach() - before).flatten()
    for name, step in moved.items():
        assert torch.cosine_similarity(step, moved[EAGER], dim=0) > (0.999 if "fp32" in name else 0.7), name


def test_a_form_is_what_its_name_says(recipe: Recipe) -> None:
    seen = {}
    for name, form in FORMS.items():
        stepper = Stepper(recipe, form, CPU)
        stepper._network.conv2.register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: output})
        )
        stepper.take([noise(recipe, 12, CPU)])
    assert {name: output.dtype for name, output in seen.items()} == {
        name: torch.float32 if "fp32" in name else torch.bfloat16 for name in FORMS
    }
    assert not seen[OURS].is_contiguous()
    assert seen[EAGER].is_contiguous()


def test_gradients_that_are_no_numbers_are_counted(recipe: Recipe) -> None:
    stepper = Stepper(recipe, FORMS[OURS], CPU)
    clips, labels = noise(recipe, 12, CPU)
    stepper.take([(clips * torch.nan, labels)])
    assert stepper.num_broken == 1


def test_the_store_feeds_clips_as_training_does(tiny_store: Path, recipe: Recipe) -> None:
    feed = Feed(Store(tiny_store), recipe, CPU, steps=6)  # eight videos in batches of two: four of an epoch
    for _ in range(2):
        batches = list(feed.clips())
        assert [tuple(clips.shape) for clips, _ in batches] == [(2, 3, 12, 28, 28)] * 6
        assert {label for _, labels in batches for label in labels.tolist()} == {0, 1}
        assert not any(torch.equal(a, b) for (a, _), (b, _) in itertools.combinations(batches, 2))
    assert len(feed.waits) == 2
    assert min(feed.waits) > 0


def test_figures_are_clips_by_cpu_seconds_on_a_cpu_and_by_the_clock_on_a_gpu() -> None:
    runs = {OURS: [Run(4.0, 2.0)] * 3, EAGER: [Run(5.0, 4.0)] * 3, FED: [Run(8.0, 2.5)] * 3}
    peaks = {OURS: 300.0, EAGER: 400.0}
    result = summarize(runs, peaks, FACTS)
    assert (result.headline.ours, result.headline.peers) == (5.0, {EAGER: 2.5})
    assert result.headline.ratios == {EAGER: 2.0}
    assert result.headline.limits == LIMITS == {EAGER: 1.9}
    assert result.exit_status == 0
    fed, memory = result.more
    assert (fed.ours, fed.peers) == (4.0, {"with noise": 5.0})
    assert (memory.ours, memory.peers, memory.lower_is_better) == (300.0, {EAGER: 400.0}, True)
    on_gpu = summarize(runs, peaks, {**FACTS, "device": "cuda"}).headline
    assert (on_gpu.ours, on_gpu.peers, on_gpu.limits) == (2.5, {EAGER: 2.0}, {})


def test_a_missed_target_is_said() -> None:
    runs = {OURS: [Run(1.0, 1.0)], EAGER: [Run(1.0, 1.8)]}
    assert summarize(runs, dict.fromkeys(runs), FACTS).exit_status == 1


@pytest.mark.slow
def test_memory_counts_what_a_step_needs(recipe: Recipe) -> None:
    """Eager float32 at 64 pixels keeps two maps of conv1 (16 x 12 x 32 x 32) a clip at the least: 50 MB for 32."""
    big = load_recipe("demo-teacher", ["data.batch_size=32"])
    small, large = (bench_train.peak_mb(asked, FORMS[EAGER], 12, CPU) for asked in (recipe, big))
    assert small is not None
    assert large is not None
    assert large - small > 50


def test_the_command_measures_and_sums_up(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_train, "peak_mb", lambda *_: 100.0)  # see test_memory_counts_what_a_step_needs
    settings = ["--recipe", "demo-teacher", "--crop", "32", "--repeats", "1", "--steps", "1", "--json"]
    done = CliRunner().invoke(train, [str(tiny_store), *settings], standalone_mode=False)
    assert done.exception is None, done.output
    summary = json.loads(done.stdout)
    assert set(summary["peers"]) == set(FORMS) - {OURS}
    assert summary["limits"] == LIMITS
    assert [figure["name"] for figure in summary["more"]] == ["training step, fed", "peak memory of a step"]
    assert 0 <= summary["facts"]["share_of_time_waiting_for_data"] < 1
    assert summary["facts"]["clip"] == "12x32x32"
