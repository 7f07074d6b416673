"""CoViAR's networks: a ResNet sees each frame of a clip alone, and the clip is the consensus of its frames.

Wu et al., Compressed Video Action Recognition, CVPR 2018. The ResNets are those of transformers; ours is the consensus.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from mfcd_core.errors import UsageError
from mfcd_train.backbones import MISSING, has_backbones

if TYPE_CHECKING:
    from torch import Tensor

RESNETS = {"resnet-basic": ("basic", 1), "resnet-bottleneck": ("bottleneck", 4)}
"""Kind of the units, and the factor that it has on the channels that leave a stage."""
STAGE_CHANNELS = (64, 128, 256, 512)
MULTIPLE = 8  # of channels: what kernels like


class FrameResNet(nn.Module):
    """Batch normalisation of the input, a ResNet for every frame, and the mean of the logits of a clip's frames.

    Args:
        num_classes: length of the logits.
        kind: a key of `RESNETS`; "resnet-basic" with depth (2, 2, 2, 2) is ResNet-18, "resnet-bottleneck" with
            (3, 8, 36, 3) ResNet-152, which strides in its 3x3 convolutions as torchvision's does.
        width: factor on all channels, each to the nearest multiple of 8.
        depth: units of the four stages, at least one each.
        in_channels: 3 for RGB frames and residuals, 2 for motion.

    Raises:
        UsageError: transformers is not installed.
    """

    def __init__(
        self, num_classes: int, kind: str, width: float, depth: tuple[int, int, int, int], in_channels: int = 3
    ) -> None:
        super().__init__()
        if not has_backbones():
            raise UsageError(f"model.network {kind}: {MISSING}")
        import transformers  # noqa: PLC0415 - an optional dependency that takes seconds to import

        layer_type, factor = RESNETS[kind]
        channels = [MULTIPLE * math.floor(width * number / MULTIPLE + 0.5) for number in STAGE_CHANNELS]
        config = transformers.ResNetConfig(
            num_channels=in_channels,
            embedding_size=channels[0],
            hidden_sizes=[factor * number for number in channels],
            depths=list(depth),
            layer_type=layer_type,
            num_labels=num_classes,
        )
        network = transformers.ResNetForImageClassification(config)
        self.data_bn = nn.BatchNorm2d(in_channels)
        self.resnet: nn.Module = network.resnet
        self.classifier: nn.Linear = network.classifier[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised clips (N, in_channels, T, H, W), T frames of any number."""
        frames = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = self.resnet(self.data_bn(frames)).pooler_output.flatten(1)
        logits: Tensor = self.classifier(features).unflatten(0, (-1, x.shape[2])).mean(1)
        return logits
