"""Weights to start from: published MFNet-3D checkpoints, torchvision's ResNets, runs of mfcd-train and theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mfcd_core.errors import UsageError
from mfcd_train.checkpoint import CHECKPOINT, PARTS, listed, load_weights, read_tensors, why_unfit
from mfcd_train.imagenet import STEM, from_torchvision, new_input
from mfcd_train.runlog import RUN, open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

CONTAINERS = ("state_dict", "model")
"""Keys under which a checkpoint may hold its weights: the published ones, and ours."""
PARALLEL_PREFIX = "module."  # of networks saved within DataParallel
COUNTER = "num_batches_tracked"  # which torch before 0.4.1 did not have
CLASSIFIER = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True)
class Pretrained:
    """Weights as they were read, by the names of our network.

    origin: where from, for messages. classes: names in the order of the logits; empty where the file does not say.
    """

    origin: str
    weights: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()


def read_pretrained(path: Path) -> Pretrained:
    """Read a published checkpoint (.pth), a run folder, or the checkpoint in it; no pickle is executed.

    Raises UsageError where there is none, and where anything but tensors by name is found.
    """
    if path.is_dir() and not (path / CHECKPOINT).is_file():
        raise UsageError(f"{path}: no {CHECKPOINT}; expected a run of mfcd-train, or a file of weights")
    folder, file = (path, path / CHECKPOINT) if path.is_dir() else (path.parent, path)
    state = _read(file)
    weights = _tensors(file, state)
    if all(name.startswith(PARALLEL_PREFIX) for name in weights):
        weights = {name.removeprefix(PARALLEL_PREFIX): weight for name, weight in weights.items()}
    weights = from_torchvision(weights)
    is_ours = all(part in state for part in PARTS) and (folder / RUN).is_file()
    return Pretrained(str(path), weights, tuple(open_run(folder).classes) if is_ours else ())


def load_pretrained(model: nn.Module, pretrained: Pretrained, classes: Sequence[str]) -> str:
    """Load every tensor of `pretrained` into `model`, which tells `classes` apart; say in a line what was done.

    A whole classifier of other classes is left out, and the model keeps its own; so it does with what an ImageNet
    network has not, see `new_input`. Counters of batches, which published checkpoints do not have, start at 0. Raises
    UsageError naming what is missing, unexpected, of another shape or type, or not finite; nothing is changed then.
    """
    own = model.state_dict()
    weights = dict(pretrained.weights)
    left_out, said = 0, ""
    if not _knows(pretrained, classes):
        count, left_out = _count(weights), len(CLASSIFIER)
        said = f"; its classifier of {count} other classes is left out, a new one of {len(classes)} begins"
        others = {name: own[name].new_empty(count, *own[name].shape[1:]) for name in CLASSIFIER if name in weights}
        weights |= {name: own[name] for name, other in others.items() if not why_unfit(name, weights[name], other)}
    if not any(name.endswith(COUNTER) for name in weights):
        weights |= {name: torch.zeros_like(entry) for name, entry in own.items() if name.endswith(COUNTER)}
    kept = new_input(pretrained.weights, own)
    if STEM in kept:
        left_out += 1
        said += f"; its first layer is left out, a new one for {own[STEM].shape[1]} channels begins"
    load_weights(model, weights | kept, pretrained.origin)
    return f"{pretrained.origin}: {len(pretrained.weights) - left_out} of {len(pretrained.weights)} tensors{said}"


def _read(file: Path) -> Any:  # noqa: ANN401 - a file may hold anything
    try:
        return read_tensors(file)
    except FileNotFoundError:
        raise UsageError(f"{file}: not there; expected a file of weights (.pth), or a run of mfcd-train") from None


def _tensors(file: Path, state: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """The plain tensors of a checkpoint, by name."""
    if isinstance(state, dict):
        state = next((state[key] for key in CONTAINERS if key in state), state)
    if not isinstance(state, dict) or not state:
        raise UsageError(
            f"{file}: holds no weights; expected a table of tensors, or one under {' or '.join(CONTAINERS)}"
        )
    strange = [name for name, entry in state.items() if not (isinstance(name, str) and _is_plain(entry))]
    if strange:
        raise UsageError(f"{file}: {listed('entries that are no plain tensors', strange)}; expected weights alone")
    return state


def _is_plain(entry: Any) -> bool:  # noqa: ANN401
    return isinstance(entry, torch.Tensor) and entry.layout == torch.strided and not entry.is_quantized


def _knows(pretrained: Pretrained, classes: Sequence[str]) -> bool:
    """Whether its classifier tells the same classes apart, as far as can be known."""
    if pretrained.classes:
        return pretrained.classes == tuple(classes)
    return _count(pretrained.weights) == len(classes)


def _count(weights: Mapping[str, Tensor]) -> int:
    """Classes of the classifier; 0 without one."""
    return len(weights[CLASSIFIER[1]]) if CLASSIFIER[1] in weights and weights[CLASSIFIER[1]].ndim else 0
