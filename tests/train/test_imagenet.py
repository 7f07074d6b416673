"""ImageNet's weights in CoViAR's networks, against ResNets by torchvision's names that share no code with ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name that every PyTorch reader knows

from mfcd_core.errors import UsageError
from mfcd_train.models.frame_resnet import FrameResNet
from mfcd_train.pretrained import load_pretrained, read_pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

pytest.importorskip("transformers")

CLASSES = [f"class {i}" for i in range(7)]
DEPTH = (2, 1, 1, 2)
EXPANSION = {"resnet-basic": 1, "resnet-bottleneck": 4}


class Block(nn.Module):
    """torchvision's BasicBlock (expansion 1) and Bottleneck (4, stride in the 3x3 convolution)."""

    def __init__(self, inside: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        out = channels * expansion
        sizes = [(inside, channels, 3, stride), (channels, out, 3, 1)]
        if expansion == 4:
            sizes = [(inside, channels, 1, 1), (channels, channels, 3, stride), (channels, out, 1, 1)]
        self.num = len(sizes)
        for i, (start, end, kernel, step) in enumerate(sizes, 1):
            self.add_module(f"conv{i}", nn.Conv2d(start, end, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(end))
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.num + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.num else y
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Published(nn.Module):
    """torchvision's ResNet at an eighth of its width."""

    def __init__(self, kind: str, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        inside, expansion = 8, EXPANSION[kind]
        for stage, num_units in enumerate(DEPTH):
            units = []
            for unit in range(num_units):
                units.append(Block(inside, 8 << stage, 2 if stage and not unit else 1, expansion))
                inside = (8 << stage) * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*units))
        self.fc = nn.Linear(inside, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def published(kind: str, num_classes: int = 7) -> Published:
    """With statistics as after training."""
    torch.manual_seed(1)
    network = Published(kind, num_classes).eval()
    for name, entry in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            entry.uniform_(0.5, 1.5)
    return network


def saved(network: nn.Module, path: Path) -> Path:
    """As torchvision's older files: without counters of batches."""
    weights = {name: entry for name, entry in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(weights, path)
    return path


def ours(kind: str, num_classes: int = 7, in_channels: int = 3) -> FrameResNet:
    torch.manual_seed(2)
    return FrameResNet(num_classes, kind, 0.125, DEPTH, in_channels).eval()


@pytest.mark.parametrize("kind", EXPANSION)
def test_a_published_resnet_gives_its_own_logits(kind: str, tmp_path: Path) -> None:
    theirs, network = published(kind), ours(kind)
    path = saved(theirs, tmp_path / "resnet.pth")
    num = len(torch.load(path))
    assert load_pretrained(network, read_pretrained(path), CLASSES) == f"{path}: {num} of {num} tensors"
    network.data_bn.eps = 0.0  # as it begins it changes nothing
    frame = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(network(frame.unsqueeze(2)), theirs(frame))


def test_another_classifier_and_a_first_layer_for_motion_begin_anew(tmp_path: Path) -> None:
    network = ours("resnet-basic", in_channels=2)
    stem = network.resnet.embedder.embedder.convolution.weight
    fresh = [stem.clone(), network.classifier.weight.clone()]
    path = saved(theirs := published("resnet-basic", 1000), tmp_path / "resnet.pth")
    said, num = load_pretrained(network, read_pretrained(path), CLASSES), len(torch.load(path))
    assert said == (
        f"{path}: {num - 3} of {num} tensors; its classifier of 1000 other classes is left out, a new one of 7 begins; "
        "its first layer is left out, a new one for 2 channels begins"
    )
    assert torch.equal(stem, fresh[0])
    assert torch.equal(network.classifier.weight, fresh[1])
    loaded = network.resnet.encoder.stages[3].layers[1].layer[0].convolution.weight
    assert torch.equal(loaded, theirs.layer4[1].conv1.weight)


def test_another_resnet_is_refused(tmp_path: Path) -> None:
    path = saved(published("resnet-basic"), tmp_path / "resnet.pth")
    with pytest.raises(UsageError, match=r"weights of .*resnet.pth do not fit: .* missing \(resnet.encoder.stages.0"):
        load_pretrained(ours("resnet-bottleneck"), read_pretrained(path), CLASSES)
    with pytest.raises(UsageError, match=r"do not fit: .* unfit \(resnet.embedder"):
        load_pretrained(FrameResNet(7, "resnet-basic", 0.25, DEPTH), read_pretrained(path), CLASSES)
