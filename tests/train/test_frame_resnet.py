"""CoViAR's networks: the consensus over frames, which frames are drawn, what is refused, and that they train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from clips import draw
from tiny_runs import TEACHER, run_command, write_recipe
from torch.utils.flop_counter import FlopCounterMode
from training import assert_same_run, error_line, interrupt_at_step, last_line, train, weights_of

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.assemble import Assembler, build_assembler, take_frames
from mfcd_train.build import build_fabric, build_model, load_model
from mfcd_train.config import Recipe
from mfcd_train.cost_cli import cost
from mfcd_train.dataset import evaluation_draws, training_draws
from mfcd_train.evaluate import main as evaluate
from mfcd_train.export import main as export
from mfcd_train.loader import iter_batches
from mfcd_train.models import frame_resnet
from mfcd_train.models.frame_resnet import RESNETS, FrameResNet
from mfcd_train.recipe_files import load_recipe
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transformers")

COVIAR: dict[str, dict[str, Any]] = {
    **TEACHER,
    "data": {**TEACHER["data"], "clip_format": "residual-only", "num_frames": 2},
    "model": {"network": "resnet-basic", "width": 0.125, "depth": [1, 1, 1, 1]},
}
STORED_FRAMES = 11


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "coviar.toml", COVIAR)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path, recipe: Path) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "coviar"
    done = train(tiny_store, recipe, out)
    assert done.status == 0, done.err
    return out


def tiny(kind: str = "resnet-basic", in_channels: int = 3) -> FrameResNet:
    torch.manual_seed(0)
    return FrameResNet(5, kind, 0.125, (1, 1, 1, 1), in_channels).eval()


# The network


@pytest.mark.parametrize("kind", RESNETS)
def test_a_clip_is_the_mean_of_the_logits_of_its_frames(kind: str) -> None:
    network, clips = tiny(kind), torch.randn(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone = [network(clips[:, :, t : t + 1]) for t in range(4)]
        assert network(clips).shape == (3, 5)
        torch.testing.assert_close(network(clips), torch.stack(alone).mean(0))
        assert not torch.allclose(alone[0], alone[1], atol=1e-4)


def test_a_clip_of_equal_frames_is_one_of_them() -> None:
    network, frame = tiny(in_channels=2), torch.randn(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(frame.repeat(1, 1, 7, 1, 1)), network(frame))


@pytest.mark.parametrize(
    ("name", "num_parameters", "giga_macs"), [("coviar-iframe", 60_192_808, 11.5), ("coviar-residual", 11_689_512, 1.8)]
)
def test_the_full_networks_are_the_published_ones(name: str, num_parameters: int, giga_macs: float) -> None:
    """Those of torchvision with ImageNet's classes, and the normalisation of the input of three channels."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = build_model(load_recipe(name), 1000).eval()
        network(torch.empty(1, 3, 1, 224, 224))
    assert sum(p.numel() for p in network.parameters()) - 6 == num_parameters
    assert round(counter.get_total_flops() / 2e9, 1) == giga_macs


@pytest.mark.parametrize("width", [1 / 12, 0.3, 2.0])
def test_every_width_is_a_network(width: float) -> None:
    for kind in RESNETS:
        assert FrameResNet(3, kind, width, (1, 1, 1, 1)).eval()(torch.zeros(1, 3, 1, 32, 32)).shape == (1, 3)


# Which frames it sees


def numbered(num_clips: int) -> torch.Tensor:
    """Frames (N, 11, 1) that hold their number and their clip's."""
    clip, frame = torch.arange(num_clips).view(-1, 1), torch.arange(STORED_FRAMES)
    return (100 * clip + frame).view(num_clips, STORED_FRAMES, 1)


@pytest.mark.parametrize(("num_frames", "expected"), [(1, [5]), (2, [2, 8]), (3, [1, 5, 9]), (11, list(range(11)))])
def test_frames_of_an_evaluation_are_evenly_spread(num_frames: int, expected: list[int]) -> None:
    taken = take_frames(numbered(2), np.full(2, 0.5, np.float32), num_frames)
    assert taken.flatten(1).tolist() == [expected, [100 + number for number in expected]]


@pytest.mark.parametrize("num_frames", [1, 3, 4, 11])
def test_frames_of_training_are_other_ones_each_as_often_as_the_others(num_frames: int) -> None:
    phases = (np.arange(1100, dtype=np.float32) + 0.5) / 1100
    taken = take_frames(numbered(1100) % 100, phases, num_frames).flatten(1)
    assert (taken.diff(dim=1) > 0).all()
    counts = taken.flatten().bincount(minlength=STORED_FRAMES)
    assert (counts - 100 * num_frames).abs().max() <= num_frames  # to the rounding of a phase


def test_the_highest_phase_stays_within_the_clip() -> None:
    highest = np.array([np.nextafter(np.float32(1), np.float32(0))])
    for num_frames in range(1, STORED_FRAMES + 1):
        assert take_frames(numbered(1), highest, num_frames).flatten()[-1] == STORED_FRAMES - 1


def test_training_draws_other_frames_by_seed_and_epoch_and_evaluation_none(tiny_store: Path) -> None:
    store, rows = Store(tiny_store), np.arange(8)
    draws = [training_draws(store, rows, seed, epoch, 0.5).phase for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert np.array_equal(draws[0], draws[1])
    assert len({tuple(phase.tolist()) for phase in draws}) == 3
    assert len(set(draws[0].tolist())) == 8
    assert set(evaluation_draws(store, rows, 2, 0, "random").phase.tolist()) == {0.5}


@pytest.mark.parametrize("name", ["residual-only", "motion", "rgb"])
@pytest.mark.parametrize("frame_size", [32, 40])
def test_the_frames_that_are_drawn_are_those_of_the_whole_clip(tiny_store: Path, name: str, frame_size: int) -> None:
    store = Store(tiny_store)
    draws = draw([0, 1], [0.2, 1.0], [0.7, 0.0], [True, False])
    (batch,) = iter_batches(store, draws, 2, with_motion=True, num_threads=1)
    whole, some = (Assembler(store.settings, frame_size, 28, 0.0, n)(batch, [name])[name] for n in (0, 3))
    torch.testing.assert_close(some, whole[:, :, [2, 6, 10]])  # P-frames 1, 5 and 9, behind the first slot


@pytest.mark.parametrize("frame_size", [32, 40])
def test_the_iframe_alone_is_the_first_slot_of_the_others(tiny_store: Path, frame_size: int) -> None:
    store = Store(tiny_store)
    (batch,) = iter_batches(
        store, draw([0, 1], [0.2, 1.0], [0.7, 0.0], [True, False]), 2, with_motion=False, num_threads=1
    )
    clips = Assembler(store.settings, frame_size, 28)(batch, ["iframe", "residual"])
    assert clips["iframe"].shape == (2, 3, 1, 28, 28)
    assert torch.equal(clips["iframe"], clips["residual"][:, :, :1])
    with pytest.raises(UsageError, match="num_frames 2 of the clip format iframe: expected 0"):
        Assembler(store.settings, frame_size, 28, num_frames=2)(batch, ["iframe"])


# A run


def test_a_resumed_run_ends_bit_for_bit_where_the_undisturbed_one_did(
    tiny_store: Path, recipe: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of an epoch: the frames that are drawn next are those that would have been."""
    out, always = tmp_path / "run", ("--set", "run.checkpoint_seconds=0")
    with monkeypatch.context() as context:
        interrupt_at_step(context, 4)
        assert train(tiny_store, recipe, out, *always).status == 130
    done = train(tiny_store, recipe, out, *always)
    assert "resuming" in done.err
    assert_same_run(run, out)


def test_which_frames_are_drawn_decides_what_is_learnt(
    tiny_store: Path, recipe: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mfcd_train.assemble.take_frames", lambda frames, phase, num: take_frames(frames, 0 * phase, num)
    )
    assert train(tiny_store, recipe, tmp_path).status == 0
    name = "classifier.weight"
    assert not torch.equal(weights_of(run)[name], weights_of(tmp_path)[name])


def test_a_run_is_evaluated_and_exported(tiny_store: Path, run: Path, tmp_path: Path) -> None:
    done = run_command(evaluate, run, tiny_store, "--clips", 2, "--device", "cpu")
    assert done.status == 0, done.err
    assert "residual-only" in done.err
    done = run_command(export, run, "--format", "pt2", "--out", tmp_path / "net.pt2", "--store", tiny_store)
    assert done.status == 0, done.err


def test_a_run_sees_in_evaluation_what_its_recipe_says(tiny_store: Path, run: Path) -> None:
    store, log = Store(tiny_store), open_run(run)
    draws = evaluation_draws(store, np.arange(2), 1, 0, "spread")
    (batch,) = iter_batches(store, draws, 2, with_motion=False, num_threads=1)
    clips = build_assembler(store.settings, log.recipe.data)(batch, ["residual-only"])["residual-only"]
    assert clips.shape == (2, 3, 2, 28, 28)
    assert load_model(log, build_fabric(log.recipe, "cpu"))(clips).shape == (2, 2)


# What is refused


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        ({"clip_format": "iframe"}, {}, "clip_format iframe with data.num_frames 0 and model.network mfnet3d"),
        ({"num_frames": 3}, {}, "data.num_frames 3 and model.network mfnet3d, which sees whole clips: expected resnet"),
        ({"clip_format": "iframe", "num_frames": 1}, {"network": "resnet-basic"}, "expected 0, it has one frame"),
        ({}, {"network": "resnet"}, "model.network is 'resnet': expected one of mfnet3d, resnet-basic, resnet-bott"),
    ],
)
def test_what_does_not_fit_together_is_refused(data: dict[str, Any], model: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe.from_dict({"data": data, "model": model})


def test_a_resnet_is_no_student(tiny_store: Path, teacher_run: Path, recipe: Path, tmp_path: Path) -> None:
    arguments = ("--teacher", teacher_run, "--set", "distill.soft_weight=1")
    line = error_line(train(tiny_store, recipe, tmp_path / "run", *arguments))
    assert line.startswith("model.network resnet-basic with distill weights above 0: expected mfnet3d")
    assert not (tmp_path / "run").exists()


def test_a_resnet_is_no_teacher(tiny_store: Path, student_recipe: Path, recipe: Path, tmp_path: Path) -> None:
    settings = ("--set", "data.clip_format=rgb", "--set", "optim.epochs=1")
    assert train(tiny_store, recipe, tmp_path / "teacher", *settings).status == 0
    line = error_line(train(tiny_store, student_recipe, tmp_path / "run", "--teacher", tmp_path / "teacher"))
    assert line == f"teacher {tmp_path / 'teacher'} is a resnet-basic, expected mfnet3d, as its student is"


def test_more_frames_than_a_gop_has_are_refused(tiny_store: Path, recipe: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, recipe, tmp_path / "run", "--set", "data.num_frames=12"))
    assert line == "data.num_frames 12: expected at most 11, the P-frames of a GOP"


def test_the_extra_that_is_missing_is_named(
    tiny_store: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_resnet, "has_backbones", lambda: False)
    line = last_line(train(tiny_store, recipe, tmp_path / "run"))
    assert line == (
        "error: model.network resnet-basic: transformers is not installed; "
        "install it with: pip install 'mfcd[baselines]'"
    )


def test_costs_of_a_run_are_those_of_mfnet(run: Path) -> None:
    line = error_line(run_command(evaluate, cost.name, run))
    assert line == f"{run} is a resnet-basic: expected mfnet3d; CoViAR's costs need no RUN"
