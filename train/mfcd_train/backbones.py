"""The 2D networks of CoViAR, DMC-Net and TTP, from the configurations of transformers: shapes alone, no weights."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

NUM_CLASSES = 1000  # of ImageNet, as the paper counts parameters
INPUT_SHAPE = (3, 224, 224)
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNet-152": (
        "ResNet",
        {"depths": [3, 8, 36, 3], "layer_type": "bottleneck", "downsample_in_bottleneck": True},
    ),
    "ResNet-18": ("ResNet", {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}),
    "MobileNetV2": ("MobileNetV2", {}),
}
"""Family and settings of each; the bottlenecks of ResNet-152 stride in their first convolution, as first published."""
MISSING = "transformers is not installed; install it with: pip install 'mfcd[baselines]'"


def has_backbones() -> bool:
    """Whether the package that builds them is installed."""
    return find_spec("transformers") is not None


def build_backbone(name: str) -> nn.Module:
    """One of `BACKBONES` for images of `INPUT_SHAPE`, on the current default device."""
    import transformers  # noqa: PLC0415 - an optional dependency that takes seconds to import

    family, settings = BACKBONES[name]
    config = getattr(transformers, f"{family}Config")(num_labels=NUM_CLASSES, **settings)
    network: nn.Module = getattr(transformers, f"{family}ForImageClassification")(config)
    return network
