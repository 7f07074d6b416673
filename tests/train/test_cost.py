"""Table 1 and Eq. 11-14: our counts, the paper's figures, and why they differ."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mfcd_train.backbones import BACKBONES
from mfcd_train.config import ModelRecipe, Recipe
from mfcd_train.cost import (
    PAPER_NETWORK,
    PASS_GFLOPS,
    PROCEDURES,
    SAME,
    ClipNetwork,
    clip_network_cost,
    describe_stages,
    peer_costs,
)

if TYPE_CHECKING:
    from mfcd_train.cost import SystemCost


def value(system: SystemCost, name: str) -> float:
    return system.figures[name].value


@pytest.fixture(scope="module")
def peers() -> dict[str, SystemCost]:
    pytest.importorskip("transformers")
    return {system.name: system for system in peer_costs()}


# MFCD-Net


def test_the_papers_network_costs_what_the_paper_says() -> None:
    figures = clip_network_cost(PAPER_NETWORK).figures
    compared = {name: (f.paper, f.difference) for name, f in figures.items() if f.paper is not None}
    assert compared == {
        "parameters": (8.0, SAME),
        "operations_a_clip": (8.53, SAME),
        "operations_a_video": (128, SAME),
    }
    assert figures["weights"].value == pytest.approx(4 * 7.996368)
    assert figures["fed_a_video"].value == pytest.approx(15 * 12 * 3 * 224 * 224 / 1e6)


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        ({"num_classes": 101}, {"parameters"}),
        ({"clips": 10}, {"operations_a_video"}),
        ({"width_px": 320}, {"operations_a_clip", "operations_a_video"}),
        (
            {"recipe": Recipe(model=ModelRecipe(width=0.5))},
            {"parameters", "operations_a_clip", "operations_a_video"},
        ),
    ],
)
def test_another_setting_is_said_where_it_differs(changed: dict[str, object], differing: set[str]) -> None:
    figures = clip_network_cost(replace(PAPER_NETWORK, **changed)).figures
    said = {name for name, f in figures.items() if f.paper is not None and f.difference != SAME}
    assert said == differing
    assert all("12x224x224, 400 classes, 15 clips" in figures[name].difference for name in said)


def test_sixteen_frames_stand_beside_the_papers_other_counter() -> None:
    figure = clip_network_cost(ClipNetwork(frames=16)).figures["operations_a_clip"]
    assert figure.paper == 11.1
    assert figure.value == pytest.approx(11.0454 + 5 * 0.06553, abs=1e-3)
    assert "11.11" in figure.difference


def test_stages_sum_to_the_whole() -> None:
    stages, figures = describe_stages(PAPER_NETWORK), clip_network_cost(PAPER_NETWORK).figures
    sums = {name: sum(stage[name] for stage in stages.values()) for name in ("parameters", "macs", "operations")}
    assert sums["parameters"] == 7_996_368
    assert sums["macs"] / 1e9 == pytest.approx(figures["macs_a_clip"].value)
    assert sums["operations"] / 1e9 == pytest.approx(figures["operations_a_clip"].value)


# The peers


def test_flops_of_a_resnet_solve_the_papers_equations() -> None:
    times = [[PROCEDURES[name].passes[net] for net in ("ResNet-152", "ResNet-18")] for name in ("CoViAR", "DMC-Net")]
    assert times == [[250, 500], [25, 75]]
    solved = np.linalg.solve(times, [3615, 401])
    assert [f"{solved[0]:.1f}", f"{solved[1]:.2f}"] == [PASS_GFLOPS["ResNet-152"], PASS_GFLOPS["ResNet-18"]]
    assert PROCEDURES["TTP"].passes == {"MobileNetV2": 750}
    assert 750 * float(PASS_GFLOPS["MobileNetV2"]) == 1050


def test_a_video_costs_the_passes_of_its_equation(peers: dict[str, SystemCost]) -> None:
    deep, shallow, mobile = (value(peers[name], "macs") for name in BACKBONES)
    assert value(peers["CoViAR"], "macs_a_video") == pytest.approx(250 * deep + 500 * shallow)
    assert value(peers["DMC-Net"], "macs_a_video") == pytest.approx(25 * deep + 75 * shallow)
    assert value(peers["TTP"], "macs_a_video") == pytest.approx(750 * mobile)
    assert value(peers["DMC-Net"], "fed_a_video") == pytest.approx(100 * 3 * 224 * 224 / 1e6)


def test_parameters_of_the_peers_are_those_of_their_networks(peers: dict[str, SystemCost]) -> None:
    found = {name: value(peers[name], "parameters") for name in PROCEDURES}
    assert found == pytest.approx(
        {"CoViAR": 60.192808 + 2 * 11.689512, "DMC-Net": 60.192808 + 3 * 11.689512, "TTP": 3 * 3.504872}
    )


def test_every_figure_of_the_paper_stands_beside_ours_with_one_line(peers: dict[str, SystemCost]) -> None:
    compared = {
        (name, key): (figure.paper, figure.difference)
        for name, system in peers.items()
        for key, figure in system.figures.items()
        if figure.paper is not None
    }
    assert {key: paper for key, (paper, _) in compared.items()} == {
        ("CoViAR", "parameters"): 83.6, ("CoViAR", "macs_a_video"): 3615,
        ("DMC-Net", "parameters"): 95.2, ("DMC-Net", "macs_a_video"): 401,
        ("TTP", "parameters"): 17.5, ("TTP", "macs_a_video"): 1050,
        ("ResNet-152", "macs"): 11.3, ("ResNet-18", "macs"): 1.58, ("MobileNetV2", "macs"): 1.4,
    }  # fmt: skip
    assert {key for key, (_, line) in compared.items() if line == SAME} == {
        ("CoViAR", "parameters"),
        ("ResNet-152", "macs"),
    }
    assert all(line and "\n" not in line for _, line in compared.values())
    assert "1.81" in compared["CoViAR", "macs_a_video"][1]
    assert "0.30" in compared["TTP", "macs_a_video"][1]
