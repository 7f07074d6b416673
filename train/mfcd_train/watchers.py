"""Who watches a run beside metrics.jsonl: TensorBoard, and Weights & Biases where it is asked for."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mfcd_core.console import warn
from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mfcd_train.runlog import RunLog

TENSORBOARD = "tensorboard"
PROJECT = "mfcd"


@dataclass
class Watcher:
    """One that is shown records of metrics.jsonl; once it fails it is told so, and left out: the run goes on."""

    name: str
    show: Callable[[Mapping[str, Any]], None]
    close: Callable[[], None]
    failed: bool = field(default=False, init=False)

    def try_show(self, record: Mapping[str, Any]) -> None:
        """Show a record."""
        self._try(lambda: self.show(record))

    def try_close(self) -> None:
        """Write out what is left."""
        self._try(self.close)

    def _try(self, action: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever another program raises must not cost a run
            self.failed = True
            warn(f"{self.name} failed and is left out from here on ({error}); metrics.jsonl has everything")


def open_tensorboard(run: RunLog, step: int) -> Watcher:
    """Events in the run's folder; those of steps after `step` are taken again and hidden."""

    @cache
    def writer() -> Any:  # noqa: ANN401 - the library has no types
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes a second, and is needed here alone

        return SummaryWriter(str(run.folder / TENSORBOARD), purge_step=step + 1)

    def show(record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if name != "step":
                writer().add_scalar(name, value, record["step"])

    return Watcher("TensorBoard", show, lambda: writer().close())


def find_wandb() -> Any:  # noqa: ANN401 - a module that may not be there, and has no types of its own
    """The module. Raises UsageError where it is not installed."""
    try:
        return import_module("wandb")
    except ImportError:
        raise UsageError(
            "--wandb: Weights & Biases is not installed; pip install wandb, or leave --wandb out"
        ) from None


def open_wandb(run: RunLog) -> Watcher:
    """A run of Weights & Biases, offline unless the environment variable WANDB_MODE says otherwise.

    A resumed run goes on under the same identity, which is that of its folder.
    """
    identity = hashlib.sha256(str(run.folder.resolve()).encode()).hexdigest()[:16]
    session = find_wandb().init(
        project=PROJECT,
        name=run.folder.resolve().name,
        id=identity,
        resume="allow",
        dir=str(run.folder),
        config=run.recipe.to_dict(),
        mode=os.environ.get("WANDB_MODE", "offline"),
    )
    return Watcher("Weights & Biases", lambda record: session.log(dict(record), step=record["step"]), session.finish)
