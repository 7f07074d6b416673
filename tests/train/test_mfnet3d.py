"""MFNet-3D against the published network's figures, and against a second forward pass that shares no code."""

from __future__ import annotations

import math

import pytest
import torch
from golden import ASSETS, GOLDEN, assert_golden, fill_by_formula
from torch.nn import functional as F  # noqa: N812

from mfcd_core.errors import UsageError
from mfcd_train.models.mfnet3d import HINT_LAYERS, MFNet3D, stage_channels

STRIDES = {"conv2": (2, 1, 1), "conv3": (1, 2, 2), "conv4": (1, 2, 2), "conv5": (1, 2, 2)}


def tiny(num_classes: int = 5, **settings: object) -> MFNet3D:
    return MFNet3D(num_classes, **{"width": 0.25, "depth": (2, 1, 1, 1), **settings})


def clips(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# The published network


@pytest.mark.parametrize(
    ("num_classes", "dtype", "tolerance"),
    [
        (51, torch.float32, 1e-3),
        (101, torch.float32, 1e-3),
        pytest.param(101, torch.float64, 1e-6, marks=pytest.mark.slow),
    ],
)
def test_outputs_equal_the_published_network(num_classes: int, dtype: torch.dtype, tolerance: float) -> None:
    """With 400 classes, and 51 in float64: see test_pretrained."""
    network = MFNet3D(num_classes)
    fill_by_formula(network, GOLDEN[num_classes]["seed"])
    assert_golden(network, num_classes, dtype, tolerance)


def test_state_dict_has_the_published_names_shapes_types_and_order() -> None:
    lines = [
        f"{name}\t{tuple(entry.shape)}\t{str(entry.dtype).removeprefix('torch.')}"
        for name, entry in MFNet3D(400).state_dict().items()
    ]
    assert lines == (ASSETS / "mfnet3d_state_dict.txt").read_text().splitlines()


@pytest.mark.parametrize(("num_classes", "expected"), [(51, 7_727_987), (101, 7_766_437), (400, 7_996_368)])
def test_parameter_count_is_the_published_one(num_classes: int, expected: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in MFNet3D(num_classes).parameters()) == expected


# A second forward pass: functions on tensors, nothing in place


def plain_bn_relu(entries: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    mean, var, weight, bias = (
        entries[f"{name}.bn.{part}"].reshape(1, -1, 1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / torch.sqrt(var + 1e-5) * weight + bias).clamp(min=0)


def plain_conv(entries: dict[str, torch.Tensor], name: str, x: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    weight = entries[f"{name}.conv.weight"]
    padding = [size // 2 for size in weight.shape[2:]]
    return F.conv3d(x, weight, stride=stride, padding=padding, groups=x.shape[1] // weight.shape[1])


def plain_unit(entries: dict[str, torch.Tensor], name: str, x: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    def layer(part: str, x: torch.Tensor, stride: tuple[int, ...] = (1, 1, 1)) -> torch.Tensor:
        return plain_conv(entries, f"{name}.{part}", plain_bn_relu(entries, f"{name}.{part}", x), stride)

    main = layer("conv_m2", layer("conv_m1", x + layer("conv_i2", layer("conv_i1", x)), stride))
    return main + (layer("conv_w1", x, stride) if f"{name}.conv_w1.conv.weight" in entries else x)


def plain_forward(entries: dict[str, torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    stem = plain_bn_relu(entries, "conv1", plain_conv(entries, "conv1", x, (1, 2, 2)))
    hints = {"maxpool": F.max_pool3d(stem, (1, 3, 3), (1, 2, 2), (0, 1, 1))}
    x = hints["maxpool"]
    for stage, stride in STRIDES.items():
        units = sorted({".".join(name.split(".")[:2]) for name in entries if name.startswith(stage)})
        for index, unit in enumerate(units):
            x = plain_unit(entries, unit, x, (1, 1, 1) if index else stride)
        hints[stage] = x
    pooled = plain_bn_relu(entries, "tail", x).mean((2, 3, 4))
    return pooled @ entries["classifier.weight"].T + entries["classifier.bias"], hints


def test_logits_hints_and_gradients_equal_a_forward_pass_without_in_place_relu() -> None:
    network = tiny(depth=(2, 2, 1, 2)).double().eval()
    fill_by_formula(network, 3)
    clip = clips(2, 3, 5, 33, 40, dtype=torch.float64)
    logits, hints = network.forward_with_hints(clip)
    entries = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    expected_logits, expected_hints = plain_forward({**network.state_dict(), **entries}, clip)
    for name in HINT_LAYERS:
        torch.testing.assert_close(hints[name], expected_hints[name], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-9, atol=1e-9)
    (logits.square().mean() + sum(h.square().mean() for h in hints.values())).backward()
    (expected_logits.square().mean() + sum(h.square().mean() for h in expected_hints.values())).backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, entries[name].grad, rtol=1e-6, atol=1e-9)


def test_hints_are_raw_maps_that_keep_their_negative_values() -> None:
    _, hints = tiny().forward_with_hints(clips(2, 3, 4, 32, 32))
    for name in STRIDES:
        assert hints[name].min() < 0, name


# Shapes, widths and depths


@pytest.mark.parametrize("size", [(12, 64, 64), (16, 32, 48), (5, 37, 51), (1, 7, 9), (1, 1, 1)])
def test_any_length_and_size_goes_through(size: tuple[int, int, int]) -> None:
    logits, hints = tiny().eval().forward_with_hints(clips(2, 3, *size))
    assert logits.shape == (2, 5)
    t, h, w = size
    half = math.ceil(t / 2)
    expected = {"maxpool": (16, t, 4), "conv2": (32, half, 4), "conv3": (48, half, 8)}
    expected |= {"conv4": (96, half, 16), "conv5": (192, half, 32)}
    for name, (channels, frames, shrink) in expected.items():
        assert hints[name].shape == (2, channels, frames, math.ceil(h / shrink), math.ceil(w / shrink)), name


def test_forward_returns_the_logits_of_forward_with_hints() -> None:
    network, x = tiny().eval(), clips(2, 3, 4, 32, 32)
    torch.testing.assert_close(network(x), network.forward_with_hints(x)[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (1 / 12, (16, 16, 32, 64)),
        (0.25, (32, 48, 96, 192)),
        (0.5, (48, 96, 192, 384)),
        (1, (96, 192, 384, 768)),
        (1.3, (128, 256, 496, 992)),
        (2, (192, 384, 768, 1_536)),
    ],
)
def test_width_gives_the_nearest_multiples_of_the_groups(width: float, expected: tuple[int, ...]) -> None:
    assert stage_channels(width) == expected
    assert MFNet3D(3, width=width, depth=(1, 1, 1, 1)).eval()(clips(1, 3, 2, 16, 16)).shape == (1, 3)


@pytest.mark.parametrize("width", [0, -1, 0.08, math.nan, math.inf])
def test_width_without_channels_is_refused(width: float) -> None:
    with pytest.raises(UsageError, match=r"expected 1/12 or more"):
        MFNet3D(3, width=width)


@pytest.mark.parametrize("depth", [(3, 4, 6), (1, 1, 0, 1), (1, 1, 1, 1, 1)])
def test_depth_without_four_stages_is_refused(depth: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="four counts of units"):
        MFNet3D(3, depth=depth)


@pytest.mark.parametrize("counts", [{"num_classes": 0}, {"num_classes": 3, "in_channels": 0}])
def test_no_classes_or_no_input_channels_is_refused(counts: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least one of each"):
        MFNet3D(**counts)


@pytest.mark.parametrize("in_channels", [1, 2, 6])
def test_in_channels_fits_other_clip_formats(in_channels: int) -> None:
    assert tiny(in_channels=in_channels).eval()(clips(1, in_channels, 2, 16, 16)).shape == (1, 5)


# Training


def test_gradient_reaches_every_parameter() -> None:
    network = tiny(depth=(2, 2, 2, 2))
    F.cross_entropy(network(clips(4, 3, 4, 32, 32)), torch.arange(4)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_fresh_network_has_branches_of_unit_variance_and_an_undecided_classifier() -> None:
    torch.manual_seed(0)
    network = tiny(num_classes=10, width=0.5)
    logits, hints = network.forward_with_hints(clips(4, 3, 8, 64, 64))
    stage_std = {name: hints[name].std().item() for name in STRIDES}
    assert all(0.7 < std < 3 for std in stage_std.values()), stage_std
    loss = F.cross_entropy(logits, torch.tensor([0, 3, 5, 9]))
    assert loss.item() == pytest.approx(math.log(10), abs=0.3)


def test_fresh_network_learns_which_way_noise_moves() -> None:
    torch.manual_seed(0)
    still = clips(16, 3, 1, 32, 32)
    labels = torch.arange(16) % 2
    steps = (2 * labels - 1).tolist()
    moving = [
        torch.cat([x.roll(2 * t * step, dims=-1) for t in range(4)], 1) for x, step in zip(still, steps, strict=True)
    ]
    network = tiny(num_classes=2, depth=(1, 1, 1, 1))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(network(torch.stack(moving)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0], losses


# Memory format and precision


def test_channels_last_gives_the_same_logits_and_keeps_the_format() -> None:
    network, x = (
        tiny().eval(),
        clips(16, 3, 4, 32, 32),
    )  # below 16 clips, PyTorch's one-thread 1x1x1 gives it up
    expected = network(x)
    network.to(memory_format=torch.channels_last_3d)
    logits, hints = network.forward_with_hints(x.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    for name, hint in hints.items():
        assert hint.is_contiguous(memory_format=torch.channels_last_3d), name


def test_bfloat16_autocast_trains_and_stays_near_float32() -> None:
    network = tiny().to(memory_format=torch.channels_last_3d)
    x = clips(4, 3, 4, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    expected, expected_hints = network.forward_with_hints(x)
    with torch.autocast("cpu", torch.bfloat16):
        logits, hints = network.forward_with_hints(x)
        loss = F.cross_entropy(logits.float(), torch.arange(4))
    loss.backward()
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.1 * expected.std().item() + 0.01)
    for name, hint in hints.items():
        error = (hint.float() - expected_hints[name]).std() / expected_hints[name].std()
        assert error < 0.05, name
        assert hint.is_contiguous(memory_format=torch.channels_last_3d), name
    assert all(p.grad is not None for p in network.parameters())  # what they are worth: see test_build
