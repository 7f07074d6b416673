"""Timing: which stages there are, what each works on, and how medians and shares are taken."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
import torch

from mfcd_core.bench import Run
from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train import latency
from mfcd_train.assemble import Assembler
from mfcd_train.config import DataRecipe, ModelRecipe, Recipe
from mfcd_train.latency import ASSEMBLE, NETWORK, READ, Subject, add_up, measure_latency, random_batch, shares
from mfcd_train.models.mfnet3d import MFNet3D

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECIPE = Recipe(DataRecipe(frame_size=32, crop_size=28), ModelRecipe(0.25, (1, 1, 1, 1)))
SETTINGS = StoreSettings(32, 32, gop_size=4)


class Watched(MFNet3D):
    """Remembers the shapes of the clips that it sees."""

    def __init__(self) -> None:
        super().__init__(2, 0.25, (1, 1, 1, 1))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        return super().forward(x)


def subject(settings: StoreSettings | None = SETTINGS, store: Store | None = None) -> Subject:
    return Subject(RECIPE, Watched().eval(), torch.device("cpu"), (3, 4, 28, 20), settings, store)


def stages_of(subject: Subject) -> list[list[str]]:
    return [list(stages) for stages in measure_latency(subject, clips=3, repeats=1).values()]


def test_random_planes_are_assembled_to_squares() -> None:
    found = subject()
    assert stages_of(found) == [[ASSEMBLE, NETWORK]] * 2
    assert set(found.model.seen) == {(1, 3, 4, 28, 28), (3, 3, 4, 28, 28)}


def test_without_planes_the_network_sees_random_clips_of_any_size() -> None:
    found = subject(settings=None)
    assert stages_of(found) == [[NETWORK]] * 2
    assert set(found.model.seen) == {(1, 3, 4, 28, 20), (3, 3, 4, 28, 20)}


def test_a_store_is_read(tiny_store: Path) -> None:
    store = Store(tiny_store)
    found = subject(store.settings, store)
    assert stages_of(found) == [[READ, ASSEMBLE, NETWORK]] * 2
    assert set(found.model.seen) == {(1, 3, 12, 28, 28), (3, 3, 12, 28, 28)}


@pytest.mark.parametrize("name", CLIP_FORMATS)
def test_random_planes_make_clips_of_every_format(name: str) -> None:
    for settings in (SETTINGS, replace(SETTINGS, pixel_format="rgb24", residual_step=1)):
        clip = Assembler(settings, 32, 28)(random_batch(settings, 2), [name])[name]
        assert clip.shape == (2, CLIP_FORMATS[name].num_channels, CLIP_FORMATS[name].num_slots(4), 28, 28)
        assert clip.isfinite().all()


def test_a_figure_is_the_median_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    round_seconds = {0: 5.0, 1: 1.0, 2: 2.0}
    calls = count()

    def timed(work: Callable[[], object]) -> Run:
        work()
        return Run(seconds := round_seconds[next(calls) // 4], 10 * seconds)  # four stages a round

    monkeypatch.setattr(latency, "run_here", timed)
    found = measure_latency(subject(), clips=2, repeats=3)
    assert found == {unit: {ASSEMBLE: Run(2.0, 20.0), NETWORK: Run(2.0, 20.0)} for unit in ("clip", "video")}


def test_shares_are_parts_of_the_wall_clock() -> None:
    runs = {READ: Run(1.0, 9.0), ASSEMBLE: Run(2.0, 9.0), NETWORK: Run(5.0, 2.0)}
    assert add_up(runs) == Run(8.0, 20.0)
    assert shares(runs) == {READ: 0.125, ASSEMBLE: 0.25, NETWORK: 0.625}
