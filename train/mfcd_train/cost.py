"""Table 1 and Eq. 11-14 of the paper: what a video costs MFCD-Net, CoViAR, DMC-Net and TTP, beside its own figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from math import prod
from typing import TYPE_CHECKING, Any

from mfcd_core.clip import CLIP_FORMATS
from mfcd_train.backbones import BACKBONES, INPUT_SHAPE, build_backbone
from mfcd_train.build import build_model
from mfcd_train.config import Recipe
from mfcd_train.flops import Counts, by_stage, count_layers, total

if TYPE_CHECKING:
    from collections.abc import Mapping

GIGA, MEGA = 1e9, 1e6
FLOAT_BYTES = 4
SAME = "the same after rounding"
NO_PAPER = ""


@dataclass(frozen=True)
class CostFigure:
    """One figure; `paper` is the paper's own where it has one, and `difference` says in a line why ours is another."""

    value: float
    unit: str
    paper: float | None = None
    difference: str = NO_PAPER


@dataclass(frozen=True)
class SystemCost:
    """What one system or network costs: `setting` says for what, `figures` are by name."""

    name: str
    setting: str
    figures: Mapping[str, CostFigure]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ClipNetwork:
    """MFNet-3D and what it is fed: `frames` x `height_px` x `width_px`, `clips` a video."""

    recipe: Recipe = field(default_factory=Recipe)
    frames: int = 12
    height_px: int = 224
    width_px: int = 224
    num_classes: int = 400
    clips: int = 15

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """One clip, (C, T, H, W)."""
        channels = CLIP_FORMATS[self.recipe.data.clip_format].num_channels
        return channels, self.frames, self.height_px, self.width_px

    @property
    def setting(self) -> str:
        """In words."""
        model = self.recipe.model
        full = "" if model == PAPER_NETWORK.recipe.model else f", width {model.width:g}, depth {list(model.depth)}"
        size = "x".join(map(str, self.input_shape[1:]))
        return f"{size}, {self.num_classes} classes, {self.clips} clips{full}"

    @cached_property
    def counts(self) -> dict[str, Counts]:
        """One clip, by layer."""
        return count_layers(partial(build_model, self.recipe, self.num_classes), self.input_shape)


PAPER_NETWORK = ClipNetwork()
"""12 frames of 224x224, 15 clips (section 5); 8.0 M parameters are those with the 400 classes of Kinetics."""


@dataclass(frozen=True)
class Procedure:
    """How a system of 2D networks sees a video: how many networks it has, and how often each is passed.

    parameters, gflops: M and GFLOPs of the paper's Table 1, as printed.
    """

    equation: int
    networks: Mapping[str, int]
    passes: Mapping[str, int]
    parameters: str
    gflops: str
    why_parameters: str = NO_PAPER

    @property
    def setting(self) -> str:
        """In words."""
        passed = " + ".join(f"{num} x {name}" for name, num in self.passes.items())
        return f"{passed} (Eq. {self.equation}), {'x'.join(map(str, INPUT_SHAPE[1:]))}"


WHY_GFLOPS = {
    "ResNet-18": "ResNet-18 has {:.2f} by its layers; Eq. 11 and 12 hold with 1.58",
    "MobileNetV2": "MobileNetV2 has {:.2f} by its layers; the paper takes TTP's 1.4",
}
SAMPLED, AUGMENTED = 25, 2 * 5  # of each kind of picture; flips and crops
PROCEDURES = {
    "CoViAR": Procedure(
        11,
        {"ResNet-152": 1, "ResNet-18": 2},
        {"ResNet-152": SAMPLED * AUGMENTED, "ResNet-18": 2 * SAMPLED * AUGMENTED},
        "83.6",
        "3615",
    ),
    "DMC-Net": Procedure(
        12,
        {"ResNet-152": 1, "ResNet-18": 3},
        {"ResNet-152": SAMPLED, "ResNet-18": 3 * SAMPLED},
        "95.2",
        "401",
        why_parameters="the paper cut off a digit; both leave out the generator",
    ),
    "TTP": Procedure(
        13,
        {"MobileNetV2": 3},
        {"MobileNetV2": 3 * SAMPLED * AUGMENTED},
        "17.5",
        "1050",
        why_parameters="three backbones of 1000 classes; TTP's own pooling is not built",
    ),
}
PASS_GFLOPS = {"ResNet-152": "11.3", "ResNet-18": "1.58", "MobileNetV2": "1.4"}
"""GFLOPs of one pass: those of ResNets solve Eq. 11 and 12, that of MobileNetV2 is in Eq. 13."""
CLIP_GFLOPS = {12: "8.53", 16: "11.1"}


def clip_network_cost(network: ClipNetwork, stored_bytes: float | None = None) -> SystemCost:
    """MFCD-Net; `stored_bytes` of a clip in a store are added where known."""
    count, clips = total(network.counts), network.clips
    why = f"the paper's is for {PAPER_NETWORK.setting}"
    of_clip, why_clip = _paper_clip(network, count)
    figures = {
        "parameters": _compare(count.parameters / MEGA, "M", "8.0", why),
        "macs_a_clip": CostFigure(count.macs / GIGA, "GMAC"),
        "operations_a_clip": _compare(count.operations / GIGA, "GFLOPs", of_clip, why_clip or why),
        "macs_a_video": CostFigure(clips * count.macs / GIGA, "GMAC"),
        "operations_a_video": _compare(clips * count.operations / GIGA, "GFLOPs", "128", why),
        "weights": CostFigure(FLOAT_BYTES * count.parameters / MEGA, "MB"),
        "fed_a_video": CostFigure(clips * prod(network.input_shape) / MEGA, "MB"),
    }
    if stored_bytes is not None:
        figures["stored_a_video"] = CostFigure(clips * stored_bytes / MEGA, "MB")
    return SystemCost("MFCD-Net", network.setting, figures)


def peer_costs() -> list[SystemCost]:
    """One pass of each 2D network, and the systems that are built of them. Needs transformers."""
    counts = {name: total(count_layers(partial(build_backbone, name), INPUT_SHAPE)) for name in BACKBONES}
    systems = [_procedure_cost(name, procedure, counts) for name, procedure in PROCEDURES.items()]
    return systems + [_pass_cost(name, count) for name, count in counts.items()]


def describe_stages(network: ClipNetwork) -> dict[str, dict[str, int]]:
    """Parameters, MACs and operations of one clip by stage."""
    return {
        name: {"parameters": count.parameters, "macs": count.macs, "operations": count.operations}
        for name, count in by_stage(network.counts).items()
        if count != Counts()
    }


def _procedure_cost(name: str, procedure: Procedure, counts: Mapping[str, Counts]) -> SystemCost:
    parameters = sum(num * counts[network].parameters for network, num in procedure.networks.items())
    macs = sum(num * counts[network].macs for network, num in procedure.passes.items())
    operations = sum(num * counts[network].operations for network, num in procedure.passes.items())
    why = " ".join(_why_gflops(network, counts[network]) for network in procedure.passes).strip()
    fed = prod(INPUT_SHAPE) * sum(procedure.passes.values())
    figures = {
        "parameters": _compare(parameters / MEGA, "M", procedure.parameters, procedure.why_parameters),
        "macs_a_video": _compare(macs / GIGA, "GMAC", procedure.gflops, why),
        "operations_a_video": CostFigure(operations / GIGA, "GFLOPs"),
        "weights": CostFigure(FLOAT_BYTES * parameters / MEGA, "MB"),
        "fed_a_video": CostFigure(fed / MEGA, "MB"),
    }
    return SystemCost(name, procedure.setting, figures)


def _pass_cost(name: str, count: Counts) -> SystemCost:
    figures = {
        "parameters": CostFigure(count.parameters / MEGA, "M"),
        "macs": _compare(count.macs / GIGA, "GMAC", PASS_GFLOPS[name], _why_gflops(name, count)),
        "operations": CostFigure(count.operations / GIGA, "GFLOPs"),
    }
    return SystemCost(name, f"one pass, {'x'.join(map(str, INPUT_SHAPE[1:]))}", figures)


def _why_gflops(name: str, count: Counts) -> str:
    return WHY_GFLOPS.get(name, NO_PAPER).format(count.macs / GIGA)


def _paper_clip(network: ClipNetwork, count: Counts) -> tuple[str, str]:
    """The paper's GFLOPs of a clip, and its line for 16 frames, which were counted in another way."""
    sixteen = (network.recipe.model, network.input_shape) == (PAPER_NETWORK.recipe.model, (3, 16, 224, 224))
    if not sixteen:
        return CLIP_GFLOPS[12], NO_PAPER
    once = (count.macs + count.activated) / GIGA
    return CLIP_GFLOPS[16], f"with one operation an element of BN and ReLU, not five: {once:.4g}"


def _compare(value: float, unit: str, paper: str, why: str) -> CostFigure:
    """`why` unless the value rounds to the paper's digits."""
    digits = len(paper.partition(".")[2])
    return CostFigure(value, unit, float(paper), SAME if f"{value:.{digits}f}" == paper else why)
