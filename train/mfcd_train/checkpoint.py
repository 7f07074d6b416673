"""Checkpoints that are whole or absent, and read without executing anything they contain."""

from __future__ import annotations

import pickle
import re
import shutil
import struct
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch
from xxhash import xxh3_128

from mfcd_core.atomic import replacing
from mfcd_core.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
NUM_NAMED, MAX_NAME = 4, 100  # of names in a message, and characters of one
PARTS = ("model", "optimizer", "progress")
UNAVERAGED = "unaveraged"
"""Where `model` is a moving average of weights: those that training goes on from."""
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What torch's safe unpickler raises on bytes that are no checkpoint, beside errors of pickle and struct."""
CALLED = re.compile(r"GLOBAL (\S+)")
"""What a refused pickle would have called, in the words of torch."""


@dataclass(frozen=True)
class Progress:
    """How far training has come: whole epochs, batches of the next one, and steps in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


def save_checkpoint(
    folder: Path,
    model: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    progress: Progress,
    **more: Mapping[str, Any],
) -> None:
    """Write the checkpoint of a run: read back and compared before it has its name, durable once it has it.

    model: the weights that are evaluated. more: further parts by name, such as `UNAVERAGED`.
    Raises OutputError where it cannot be written; the one before is left as it was.
    """
    state = {"model": dict(model), "optimizer": dict(optimizer), "progress": vars(progress), **more}
    path = folder / CHECKPOINT
    buffer = BytesIO()
    torch.save(state, buffer)
    with writing_to(folder, f"{path}: the checkpoint of step {progress.step}"), replacing(path) as part:
        part.write_bytes(buffer.getbuffer())
        if part.read_bytes() != buffer.getbuffer():
            raise OutputError(f"{path}: reads back otherwise than it was written; check the disk and the memory")


@contextmanager
def writing_to(folder: Path, what: str) -> Iterator[None]:
    """Turn an OSError into an OutputError that says what cannot be written, and where the run in `folder` goes on."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{what} cannot be written ({error.strerror}): free some space or mend the disk, then run again; it goes "
            f"on from {describe_checkpoint(folder)}"
        ) from error


def describe_checkpoint(folder: Path) -> str:
    """Name the last checkpoint of a run and its step, or say that there is none."""
    if not (folder / CHECKPOINT).exists():
        return "the start: no checkpoint was written yet"
    return f"{folder / CHECKPOINT}, step {load_checkpoint(folder)['progress']['step']}"


def keep_checkpoint(folder: Path, name: str) -> None:
    """Keep the checkpoint that there is now under another name too, without its bytes once more where links work.

    Raises OutputError where that cannot be written.
    """
    if (folder / name).exists() and (folder / name).samefile(folder / CHECKPOINT):
        return
    with writing_to(folder, str(folder / name)), replacing(folder / name) as part:
        try:
            part.hardlink_to(folder / CHECKPOINT)
        except OSError:
            shutil.copyfile(folder / CHECKPOINT, part)


def keep_epoch(folder: Path, epoch: int, keep_last: int) -> None:
    """Keep the checkpoint that there is now as that of `epoch`, and of those kept before the `keep_last` last ones."""
    if keep_last:
        keep_checkpoint(folder, f"epoch-{epoch:04}.pt")
    for path in sorted(folder.glob("epoch-*.pt"))[: -keep_last or None]:
        path.unlink()


def weights_checksum(weights: Mapping[str, Tensor]) -> str:
    """xxh3_128 of names, shapes, types and bytes of tensors, in their order."""
    digest = xxh3_128()
    for name, weight in weights.items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_checkpoint(folder: Path, name: str = CHECKPOINT) -> dict[str, Any]:
    """Read a checkpoint of a run. Raises UsageError where there is none or it cannot be read."""
    path = folder / name
    try:
        state: dict[str, Any] = read_tensors(path)
    except FileNotFoundError:
        kept = ", ".join(sorted(file.name for file in folder.glob("*.pt")))
        expected = f"one of {kept}" if kept and name != CHECKPOINT else "a run of mfcd-train"
        raise UsageError(f"{folder}: no {name}; expected {expected}") from None
    whole = isinstance(state, dict) and all(isinstance(state.get(part), dict) for part in PARTS)
    if not (whole and _is_progress(state["progress"])):
        raise UsageError(f"{path}: not a checkpoint of mfcd-train; expected {', '.join(PARTS)} in it")
    return state


def _is_progress(found: Mapping[str, Any]) -> bool:
    own = vars(Progress())
    return found.keys() == own.keys() and all(isinstance(count, int) and count >= 0 for count in found.values())


def read_tensors(path: Path) -> Any:  # noqa: ANN401 - a file may hold anything
    """What a file that torch saved holds, on the CPU; nothing in it is executed.

    Raises FileNotFoundError, and UsageError where it cannot be read or is no pickle of tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders about other protocols, and may refuse them anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (*UNREADABLE, pickle.UnpicklingError, struct.error) as error:
        raise UsageError(
            f"{path}: not a readable checkpoint ({_why_unreadable(error)}); expected one of tensors alone"
        ) from None


def _why_unreadable(error: Exception) -> str:
    """One line; torch's own on pickles advises to execute them."""
    if isinstance(error, pickle.UnpicklingError):
        called = CALLED.search(str(error))
        return f"it would call {_printable(called[1])}" if called else "no pickle of tensors"
    return " ".join(_printable(str(error).partition("\n")[0]).split()) or type(error).__name__


def load_weights(model: nn.Module, weights: Mapping[str, Any], origin: str) -> None:
    """Load every tensor of `weights`, strictly. Raises UsageError naming what does not fit; nothing is changed then."""
    own = model.state_dict()
    shared = [name for name in own if name in weights]
    found = {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "unfit": [why for name in shared if (why := why_unfit(name, weights[name], own[name]))],
    }
    wrong = [listed(what, names) for what, names in found.items() if names]
    if wrong:
        raise UsageError(f"weights of {origin} do not fit: {'; '.join(wrong)}; expected the network of the recipe")
    model.load_state_dict(weights)


def listed(what: str, names: Sequence[object]) -> str:
    """`3 missing (a, b, c)`, at most a few by name, each printable."""
    named = [_printable(str(name)[:MAX_NAME]) for name in names[:NUM_NAMED]]
    more = [f"{len(names) - NUM_NAMED} more"] if len(names) > NUM_NAMED else []
    return f"{len(names)} {what} ({', '.join(named + more)})"


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def why_unfit(name: str, found: Any, own: Tensor) -> str:  # noqa: ANN401 - a checkpoint may hold anything
    """What keeps an entry from standing in for a tensor of ours; empty where nothing does."""
    if not isinstance(found, torch.Tensor):
        return f"{name} is no tensor"
    if (found.shape, found.dtype) != (own.shape, own.dtype):
        return f"{name} {_described(found)}, expected {_described(own)}"
    return "" if found.isfinite().all() else f"{name} is not finite"


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
