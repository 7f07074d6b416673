"""What a trainer is fed and an evaluation gives, written down; as a program, for one of several processes."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tiny_runs import run_command
from torch import distributed

from mfcd_train import evaluator, trainer
from mfcd_train.dataset import Draws
from mfcd_train.evaluate import main as evaluate
from mfcd_train.train import main as train
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_train.loader import Batch

Fed = list[tuple[float, ...]]
"""Video, GOP, top, left and flip of each sample, in order."""


def samples(draws: Draws) -> Fed:
    return list(zip(*(getattr(draws, f.name).tolist() for f in fields(Draws)), strict=True))


class Notes:
    """fed: to the steps of training, by batches. scores: of each validation and evaluation."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fed: list[Fed] = []
        self.scores: list[NDArray[np.float32]] = []
        losses, predict = Trainer._losses, evaluator.predict

        def noted_losses(subject: Trainer, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
            self.fed.append(samples(batch.draws))
            return losses(subject, batch)

        def noted_predict(*arguments: Any, **more: Any) -> NDArray[np.float32]:  # noqa: ANN401
            self.scores.append(predict(*arguments, **more))
            return self.scores[-1]

        patch.setattr(Trainer, "_losses", noted_losses)
        patch.setattr(trainer, "predict", noted_predict)
        patch.setattr(evaluator, "predict", noted_predict)


def train_and_evaluate(patch: pytest.MonkeyPatch, store: Path, recipe: Path, run: Path, clips: int) -> Notes:
    """Both commands, one after the other."""
    notes = Notes(patch)
    done = run_command(train, store, "--recipe", recipe, "--out", run, "--device", "cpu")
    assert done.status == 0, done.err
    if distributed.is_initialized():
        distributed.barrier()  # the first process writes the checkpoint that all of them read
    done = run_command(evaluate, run, store, "--clips", clips, "--device", "cpu")
    assert done.status == 0, done.err
    return notes


def read_notes(path: Path) -> tuple[list[Fed], list[NDArray[np.float32]]]:
    with np.load(path) as notes:
        fed = [[tuple(sample) for sample in batch.tolist()] for batch in notes["fed"]]
        return fed, [notes[name] for name in notes.files if name != "fed"]


def main(words: Sequence[str]) -> None:
    import pytest  # noqa: PLC0415 - the annotations of others need none

    with pytest.MonkeyPatch.context() as patch:
        store, recipe, run, notes_folder = map(Path, words[:4])
        notes = train_and_evaluate(patch, store, recipe, run, int(words[4]))
        np.savez(notes_folder / f"{os.environ['RANK']}.npz", *notes.scores, fed=np.array(notes.fed))


if __name__ == "__main__":
    main(sys.argv[1:])
