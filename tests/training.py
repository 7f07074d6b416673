"""Training in tests: the command in this process, and how two runs are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tiny_runs import run_command

from mfcd_core.store import Store
from mfcd_train.checkpoint import load_checkpoint
from mfcd_train.runlog import open_run
from mfcd_train.train import main
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest
    from tiny_runs import Outcome
    from torch import Tensor

    from mfcd_train.checkpoint import Progress

TIMINGS = {"clips_per_second", "data_wait"}


def train(store: Path, recipe: Path, out: Path, *arguments: object) -> Outcome:
    return run_command(main, store, "--recipe", recipe, "--out", out, "--device", "cpu", *arguments)


def weights_of(run: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_checkpoint(run)["model"]
    return weights


def is_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(map(torch.equal, one.values(), other.values()))


def measured(run: Path) -> list[dict[str, Any]]:
    """All records, without what a clock says."""
    records = open_run(run).read_metrics()
    return [{name: value for name, value in record.items() if name not in TIMINGS} for record in records]


def assert_same_run(one: Path, other: Path) -> None:
    mine, yours = load_checkpoint(one), load_checkpoint(other)
    assert is_same(mine["model"], yours["model"])
    assert mine["progress"] == yours["progress"]
    moments, expected = (state["optimizer"]["state"] for state in (mine, yours))
    assert len(moments) == len(expected) > 10
    assert all(is_same(moments[i], expected[i]) for i in expected)
    assert measured(one) == measured(other)


def damage_only_gop(folder: Path, video_id: str) -> None:
    """Change a bit of the I-frame's checksum in the first GOP of a video of the store in `folder`."""
    store = Store(folder)
    video = store.videos.row_of(video_id)
    place = store.places[store.videos.first_gop[video]]
    with (folder / store.shard_of(video)).open("r+b") as file:
        file.seek(int(place["offset"]) + int(place["sizes"][0]) - 1)  # its last byte
        last = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([last ^ 1]))


def error_line(outcome: Outcome) -> str:
    """The one line of a command that failed before it began."""
    assert outcome.status == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def last_line(outcome: Outcome) -> str:
    assert outcome.status == 2
    return outcome.err.splitlines()[-1]


def interrupt_at_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole_step = Trainer._train_step

    def interrupted(subject: Trainer, batch: Any, progress: Progress, num_batches: int) -> dict[str, Any]:  # noqa: ANN401
        if progress.step == step:
            raise KeyboardInterrupt
        return whole_step(subject, batch, progress, num_batches)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
