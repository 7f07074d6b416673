"""CoViAR's recipes: what its networks see, and how its authors trained them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mfcd_core.store import Store
from mfcd_train.evaluator import num_frames_fed
from mfcd_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

COVIAR = ["coviar-iframe", "coviar-motion", "coviar-residual"]


@pytest.mark.parametrize("prefix", ["", "demo-"])
def test_coviars_networks_see_an_iframe_and_three_frames_of_residuals_and_motion(prefix: str) -> None:
    data = {name: load_recipe(prefix + name).data for name in COVIAR}
    assert {name: (d.clip_format, d.num_frames) for name, d in data.items()} == {
        "coviar-iframe": ("iframe", 0),
        "coviar-motion": ("motion", 3),
        "coviar-residual": ("residual-only", 3),
    }


def test_coviar_trains_as_its_authors_published_for_ucf101() -> None:
    rates = {name: load_recipe(name).optim.learning_rate for name in COVIAR}
    assert rates == {"coviar-iframe": 0.0003, "coviar-motion": 0.01, "coviar-residual": 0.005}
    for name in COVIAR:
        recipe = load_recipe(name)
        optim, data = recipe.optim, recipe.data
        assert (optim.optimizer, optim.weight_decay, optim.backbone_factor, optim.gamma) == ("adam", 1e-4, 0.01, 0.1)
        assert (optim.epochs, optim.milestones, data.batch_size) == (510, (150, 270, 390), 80)
        assert (data.frame_size, data.crop_size) == (256, 224)


def test_results_name_the_frames_that_were_fed(tiny_store: Path) -> None:
    store = Store(tiny_store)
    fed = {name: num_frames_fed(load_recipe(name), store) for name in [*COVIAR, "teacher", "student"]}
    assert list(fed.values()) == [1, 3, 3, 12, 12]
