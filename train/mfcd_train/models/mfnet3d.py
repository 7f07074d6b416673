"""MFNet-3D: multi-fiber residual units, pre-activation, for clips of any length and size.

Chen et al., Multi-Fiber Networks for Video Recognition, ECCV 2018. At width 1 and depth (3, 4, 6, 3) names,
shapes and outputs are those of the published network; only its 8x7x7 average pool became a global one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import nn

from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Triple = tuple[int, int, int]
"""Kernel or stride in (T, H, W)."""

GROUPS = 16
STEM_CHANNELS = 16
STAGE_CHANNELS = (96, 192, 384, 768)
HINT_LAYERS = ("maxpool", "conv2", "conv3", "conv4", "conv5")
"""Layers whose raw outputs are the hints of Eq. 5, in order."""


class MFNet3D(nn.Module):
    """MFNet-3D: a stem, four stages of multi-fiber units, global average pool and a classifier.

    Args:
        num_classes: length of the logits.
        width: factor on the channels of the stages, see `stage_channels`.
        depth: units of the stages conv2, conv3, conv4 and conv5, at least one each.
        in_channels: 3 for RGB clips, 2 for motion.

    Raises:
        UsageError: an argument describes no network.
    """

    def __init__(
        self,
        num_classes: int,
        width: float = 1.0,
        depth: tuple[int, int, int, int] = (3, 4, 6, 3),
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        _check_counts(num_classes, depth, in_channels)
        c2, c3, c4, c5 = stage_channels(width)
        self.conv1 = _stem(in_channels)
        self.maxpool = nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.conv2 = _stage(STEM_CHANNELS, c2, depth[0], stride=(2, 1, 1))
        self.conv3 = _stage(c2, c3, depth[1], stride=(1, 2, 2))
        self.conv4 = _stage(c3, c4, depth[2], stride=(1, 2, 2))
        self.conv5 = _stage(c4, c5, depth[3], stride=(1, 2, 2))
        self.tail = nn.Sequential(OrderedDict(bn=nn.BatchNorm3d(c5), relu=nn.ReLU(inplace=True)))
        self.classifier = nn.Linear(c5, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised clips (N, in_channels, T, H, W)."""
        logits, _ = self.forward_with_hints(x)
        return logits

    def forward_with_hints(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and the raw feature maps of `HINT_LAYERS` (Eq. 5).

        From x (N, in_channels, T, H, W), sizes rounded up: maxpool (N, 16, T, H/4, W/4), then with T/2 frames
        conv2 (N, c2, T/2, H/4, W/4), conv3 at H/8, conv4 at H/16 and conv5 at H/32, see `stage_channels`.
        Later layers do not alter them: a ReLU works in place on the output of its BN alone.
        """
        hints: dict[str, Tensor] = {}
        x = self.conv1(x)
        for name in HINT_LAYERS:
            x = hints[name] = self.get_submodule(name)(x)
        logits: Tensor = self.classifier(self.tail(x).mean(dim=(2, 3, 4)))
        return logits, hints


class Unit(nn.Module):
    """Multi-fiber unit (N, in, T, H, W) -> (N, out, T', H', W'): main path of 16 fibers plus shortcut.

    A multiplexer of two 1x1x1 convolutions lets the fibers exchange information before they part. The first
    unit of a stage changes channels and size; its shortcut is a convolution of the unit's own input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Triple, *, is_first: bool) -> None:
        super().__init__()
        bottleneck = out_channels // 4
        self.conv_i1 = _bn_relu_conv(in_channels, bottleneck)
        self.conv_i2 = _bn_relu_conv(bottleneck, in_channels)
        self.conv_m1 = _bn_relu_conv(in_channels, out_channels, (3, 3, 3), stride, GROUPS)
        if is_first:
            self.conv_m2 = _bn_relu_conv(out_channels, out_channels)
            self.conv_w1: nn.Module = _bn_relu_conv(in_channels, out_channels, stride=stride)
        else:
            self.conv_m2 = _bn_relu_conv(out_channels, out_channels, (1, 3, 3), groups=GROUPS)
            self.conv_w1 = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return m2(m1(x + i2(i1(x)))) + w1(x)."""
        multiplexed = x + self.conv_i2(self.conv_i1(x))
        out: Tensor = self.conv_m2(self.conv_m1(multiplexed)) + self.conv_w1(x)
        return out


def stage_channels(width: float) -> tuple[int, ...]:
    """Channels of conv2 to conv5: (96, 192, 384, 768) times `width`, to the nearest multiple of 16 groups.

    Ties go up: width 0.25 gives (32, 48, 96, 192), 0.5 gives (48, 96, 192, 384). The stem keeps 16 channels.

    Raises:
        UsageError: a stage would have no channels (width below 1/12), or width is not finite.
    """
    if not (math.isfinite(width) and width * STAGE_CHANNELS[0] >= GROUPS / 2):
        raise UsageError(f"width {width} leaves conv2 fewer channels than groups; expected 1/12 or more, such as 0.25")
    return tuple(GROUPS * math.floor(width * channels / GROUPS + 0.5) for channels in STAGE_CHANNELS)


def _check_counts(num_classes: int, depth: tuple[int, ...], in_channels: int) -> None:
    if min(num_classes, in_channels) < 1:
        raise UsageError(f"got {num_classes} classes and {in_channels} input channels; expected at least one of each")
    if len(depth) != len(STAGE_CHANNELS) or min(depth) < 1:
        raise UsageError(f"depth {tuple(depth)}: expected four counts of units, each at least 1, such as (3, 4, 6, 3)")


def _stem(in_channels: int) -> nn.Sequential:
    conv = nn.Conv3d(in_channels, STEM_CHANNELS, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm3d(STEM_CHANNELS), relu=nn.ReLU(inplace=True)))


def _stage(in_channels: int, out_channels: int, num_units: int, stride: Triple) -> nn.Sequential:
    units: OrderedDict[str, nn.Module] = OrderedDict(B01=Unit(in_channels, out_channels, stride, is_first=True))
    for number in range(2, num_units + 1):
        units[f"B{number:02d}"] = Unit(out_channels, out_channels, (1, 1, 1), is_first=False)
    return nn.Sequential(units)


def _bn_relu_conv(
    in_channels: int,
    out_channels: int,
    kernel: Triple = (1, 1, 1),
    stride: Triple = (1, 1, 1),
    groups: int = 1,
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm3d(in_channels), relu=nn.ReLU(inplace=True), conv=conv))


def _initialise(module: nn.Module) -> None:
    """Draw weights so that every branch starts with unit variance and the logits near zero.

    Convolutions: Kaiming normal over the fan-in, which counts one group (PyTorch's fan-out counts all of them
    and would shrink grouped weights by 4). BN: weight 1, bias 0, PyTorch's own. Classifier: deviation 0.01,
    bias 0.
    """
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
