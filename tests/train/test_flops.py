"""Counts against arithmetic on single layers, the published figures, and torch's own counter on real networks."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mfcd_train.flops import Counts, by_stage, count_layers, total
from mfcd_train.models.mfnet3d import MFNet3D

PUBLISHED = {  # parameters; GMACs of 12 and of 16 frames of 224x224
    "conv1": (3_632, 0.542, 0.723),
    "conv2": (66_384, 1.234, 1.645),
    "conv3": (404_544, 2.011, 2.681),
    "conv4": (2_424_576, 2.964, 3.952),
    "conv5": (4_788_096, 1.534, 2.045),
}


def mfnet(num_classes: int, *size: int) -> dict[str, Counts]:
    return count_layers(partial(MFNet3D, num_classes), (3, *size))


# Single layers


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "macs"),
    [
        (nn.Conv3d(3, 16, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False), (3, 12, 224, 224), 3600, 541_900_800),
        (nn.Conv2d(8, 12, 3, padding=1, groups=4), (8, 5, 7), 12 * 2 * 9 + 12, 5 * 7 * 12 * 2 * 9),
        (nn.Linear(768, 400), (768,), 307_600, 307_200),
    ],
)
def test_products_of_a_layer(layer: nn.Module, shape: tuple[int, ...], parameters: int, macs: int) -> None:
    counts = count_layers(lambda: nn.Sequential(OrderedDict(only=layer.to("meta"))), shape)
    assert counts == {"only": Counts(parameters=parameters, macs=macs)}


def test_normalised_and_activated_elements_are_five_operations_each() -> None:
    counts = count_layers(lambda: nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.ReLU6()), (4, 6, 5))
    assert counts == {"0": Counts(8, normalised=120), "1": Counts(activated=120), "2": Counts(activated=120)}
    assert (counts["0"] + counts["1"]).operations == 600


def test_a_layer_in_two_places_works_twice_and_has_its_weights_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(self.layer(x))
            return out

    assert total(count_layers(Twice, (5,))) == Counts(parameters=30, macs=50)


def test_a_layer_of_unknown_cost_is_refused() -> None:
    with pytest.raises(TypeError, match="LayerNorm"):
        count_layers(lambda: nn.Sequential(nn.LayerNorm(5)), (5,))


# The network of the paper


@pytest.mark.parametrize(("num_classes", "expected"), [(51, 7_727_987), (101, 7_766_437), (400, 7_996_368)])
def test_parameters_are_the_published_ones(num_classes: int, expected: int) -> None:
    assert total(mfnet(num_classes, 12, 224, 224)).parameters == expected


@pytest.mark.parametrize(("frames", "column"), [(12, 1), (16, 2)])
def test_stages_have_the_published_parameters_and_macs(frames: int, column: int) -> None:
    stages = by_stage(mfnet(400, frames, 224, 224))
    for name, row in PUBLISHED.items():
        assert stages[name].parameters == row[0]
        assert stages[name].macs / 1e9 == pytest.approx(row[column], abs=1e-3)


def test_the_papers_counter_gives_its_own_figures() -> None:
    twelve, sixteen = (total(mfnet(400, frames, 224, 224)) for frames in (12, 16))
    assert round(twelve.operations / 1e9, 2) == 8.53
    assert round(15 * twelve.operations / 1e9, 2) == 127.95
    assert twelve.normalised == twelve.activated
    assert round(twelve.activated / 1e9, 5) == 0.04915
    assert round((sixteen.macs + sixteen.activated) / 1e9, 1) == 11.1


@pytest.mark.parametrize("size", [(4, 64, 48), (5, 33, 47)])
def test_macs_are_half_of_what_torch_counts_on_the_real_network(size: tuple[int, int, int]) -> None:
    network = MFNet3D(7).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(1, 3, *size))
    counted = total(mfnet(7, *size))
    assert 2 * counted.macs == counter.get_total_flops()
    assert counted.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_counting_needs_no_memory_for_what_it_counts() -> None:
    terabytes = total(mfnet(400, 240, 4096, 4096))
    stem = 16 * 240 * 2048 * 2048
    assert terabytes.macs > stem * 3 * 75
