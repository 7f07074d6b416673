"""Networks."""

from __future__ import annotations

from typing import TypeAlias

from mfcd_train.models.frame_resnet import FrameResNet
from mfcd_train.models.mfnet3d import MFNet3D

Network: TypeAlias = MFNet3D | FrameResNet
"""Takes clips (N, C, T, H, W), gives logits (N, classes), and ends in `classifier`."""
