"""Checkpoints that are whole or absent, and read without executing anything they contain."""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mfcd_core.atomic import replacing
from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

CHECKPOINT = "checkpoint.pt"
NUM_NAMED, MAX_NAME = 4, 100  # of names in a message, and characters of one
PARTS = ("model", "optimizer", "progress")
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What torch's safe unpickler raises on bytes that are no checkpoint, beside errors of pickle and struct."""


@dataclass(frozen=True)
class Progress:
    """How far training has come: whole epochs, batches of the next one, and steps in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


def save_checkpoint(folder: Path, model: Mapping[str, Any], optimizer: Mapping[str, Any], progress: Progress) -> None:
    """Write the checkpoint of a run: durable once it has its name."""
    state = {"model": dict(model), "optimizer": dict(optimizer), "progress": vars(progress)}
    with replacing(folder / CHECKPOINT) as part:
        torch.save(state, part)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the checkpoint of a run. Raises UsageError where there is none or it cannot be read."""
    path = folder / CHECKPOINT
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{folder}: no {CHECKPOINT}; expected a run of mfcd-train") from None
    except (*UNREADABLE, pickle.UnpicklingError, struct.error) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: not a readable checkpoint ({reason}); train again") from None
    if not isinstance(state, dict) or not all(isinstance(state.get(part), dict) for part in PARTS):
        raise UsageError(f"{path}: not a checkpoint of mfcd-train; expected {', '.join(PARTS)} in it")
    return state


def load_weights(model: nn.Module, weights: Mapping[str, Any], origin: str) -> None:
    """Load every tensor of `weights`, strictly. Raises UsageError naming what does not fit; nothing is changed then."""
    own = model.state_dict()
    shared = [name for name in own if name in weights]
    found = {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "unfit": [why for name in shared if (why := _why_unfit(name, weights[name], own[name]))],
    }
    wrong = [listed(what, names) for what, names in found.items() if names]
    if wrong:
        raise UsageError(f"weights of {origin} do not fit: {'; '.join(wrong)}; expected the network of the recipe")
    model.load_state_dict(weights)


def listed(what: str, names: Sequence[object]) -> str:
    """`3 missing (a, b, c)`, at most a few by name, each printable."""
    named = [text if (text := str(name)[:MAX_NAME]).isprintable() else ascii(text) for name in names[:NUM_NAMED]]
    more = [f"{len(names) - NUM_NAMED} more"] if len(names) > NUM_NAMED else []
    return f"{len(names)} {what} ({', '.join(named + more)})"


def _why_unfit(name: str, found: Any, own: Tensor) -> str:  # noqa: ANN401 - a checkpoint may hold anything
    if not isinstance(found, torch.Tensor):
        return f"{name} is no tensor"
    if (found.shape, found.dtype) != (own.shape, own.dtype):
        return f"{name} {_described(found)}, expected {_described(own)}"
    return "" if found.isfinite().all() else f"{name} is not finite"


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
