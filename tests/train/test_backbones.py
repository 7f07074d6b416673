"""The peers' networks against the figures that their authors published."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mfcd_train.backbones import INPUT_SHAPE, build_backbone
from mfcd_train.flops import count_layers, total

pytest.importorskip("transformers")

PUBLISHED = {  # parameters with ImageNet's classes; GMACs at 224x224
    "ResNet-152": (60_192_808, 11.3),
    "ResNet-18": (11_689_512, 1.8),
    "MobileNetV2": (3_504_872, 0.3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    count = total(count_layers(partial(build_backbone, name), INPUT_SHAPE))
    assert (count.parameters, round(count.macs / 1e9, 1)) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_are_half_of_what_torch_counts(name: str) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build_backbone(name).eval()(torch.empty(1, *INPUT_SHAPE))
    assert 2 * total(count_layers(partial(build_backbone, name), INPUT_SHAPE)).macs == counter.get_total_flops()
