"""Checkpoints: whole or the one before, nothing executed, and weights that do not fit are named."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from mfcd_core.errors import OutputError, UsageError
from mfcd_train.checkpoint import (
    BEST,
    CHECKPOINT,
    Progress,
    keep_checkpoint,
    keep_epoch,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    weights_checksum,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def network(hidden: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 2))


def save(folder: Path, progress: Progress = Progress(1, 2, 3)) -> dict[str, torch.Tensor]:  # noqa: B008 - frozen
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(folder, model.state_dict(), optimizer.state_dict(), progress)
    return model.state_dict()


def is_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(map(torch.equal, one.values(), other.values()))


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    weights = save(tmp_path)
    state = load_checkpoint(tmp_path)
    assert is_same(state["model"], weights)
    assert Progress(**state["progress"]) == Progress(epoch=1, batch=2, step=3)
    optimizer = torch.optim.SGD(network().parameters(), 0.5, momentum=0.9)
    optimizer.load_state_dict(state["optimizer"])
    assert all(group["lr"] == 0.1 for group in optimizer.param_groups)
    assert all("momentum_buffer" in entry for entry in optimizer.state.values())


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    save(tmp_path / "run")
    weights = save(tmp_path / "run", Progress(epoch=2))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [CHECKPOINT]
    assert is_same(load_checkpoint(tmp_path / "run")["model"], weights)


# Failures while saving


def fail_halfway(path: Path, content: memoryview) -> None:
    with path.open("wb") as file:
        file.write(content[:100])
    raise OSError(28, "No space left on device")


def fail(*_: object) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("where", "name", "failure", "reason"),
    [(Path, "write_bytes", fail_halfway, "No space left on device"), (os, "fsync", fail, "Input/output error")],
)
def test_a_failure_while_saving_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str, failure: object, reason: str
) -> None:
    weights = save(tmp_path)
    monkeypatch.setattr(where, name, failure)
    with pytest.raises(OutputError, match=rf"step 3 cannot be written \({reason}\).* goes on from .*, step 3"):
        save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    assert is_same(load_checkpoint(tmp_path)["model"], weights)


def test_a_checkpoint_is_kept_under_another_name_though_the_next_one_replaces_it(tmp_path: Path) -> None:
    weights = save(tmp_path, Progress(1, 0, 3))
    keep_checkpoint(tmp_path, BEST)
    save(tmp_path, Progress(2, 0, 6))
    assert load_checkpoint(tmp_path, BEST)["progress"]["step"] == 3
    assert is_same(load_checkpoint(tmp_path, BEST)["model"], weights)
    keep_checkpoint(tmp_path, BEST)
    assert load_checkpoint(tmp_path, BEST)["progress"]["step"] == 6


def test_a_checkpoint_is_copied_where_links_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = save(tmp_path)
    monkeypatch.setattr(Path, "hardlink_to", fail)
    keep_checkpoint(tmp_path, BEST)
    assert not (tmp_path / BEST).samefile(tmp_path / CHECKPOINT)
    assert is_same(load_checkpoint(tmp_path, BEST)["model"], weights)


def test_a_checkpoint_that_cannot_be_kept_says_where_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        OutputError, match=r"best.pt cannot be written \(Input/output error\).* goes on from .*, step 3"
    ):
        keep_checkpoint(tmp_path, BEST)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize(("keep_last", "kept"), [(0, []), (1, ["0012"]), (3, ["0010", "0011", "0012"])])
def test_the_last_epochs_are_kept(tmp_path: Path, keep_last: int, kept: list[str]) -> None:
    for epoch in range(8, 13):
        save(tmp_path, Progress(epoch, 0, epoch))
        keep_epoch(tmp_path, epoch, keep_last)
    assert [path.name for path in sorted(tmp_path.glob("epoch-*"))] == [f"epoch-{name}.pt" for name in kept]
    assert [load_checkpoint(tmp_path, f"epoch-{name}.pt")["progress"]["epoch"] for name in kept] == [
        int(n) for n in kept
    ]


def test_the_checksum_of_weights_sees_values_names_and_shapes() -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    others = [
        {"a": weights["a"].clone().index_fill_(0, torch.tensor([1]), 9), "b": weights["b"]},
        {"a": weights["a"].reshape(3, 2), "b": weights["b"]},
        {"a": weights["a"], "c": weights["b"]},
        {"a": weights["a"], "b": weights["b"].double()},
    ]
    same = {"a": weights["a"].t().contiguous().t(), "b": weights["b"]}  # other strides
    assert weights_checksum(same) == weights_checksum(weights)
    assert len({weights_checksum(each) for each in (weights, *others)}) == 5


# Hostile and damaged files


class Attack:
    """What a pickle may do to those who load it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state, protocol=2))])
def test_no_pickle_is_executed(tmp_path: Path, writer: Any) -> None:  # noqa: ANN401
    target = tmp_path / "executed"
    writer({"model": Attack(target), "optimizer": {}, "progress": {}}, tmp_path / CHECKPOINT)
    with pytest.raises(UsageError, match="not a readable checkpoint") as refused:
        load_checkpoint(tmp_path)
    assert not target.exists()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04", b"not a checkpoint", b"\x80\x02}q\x00."])
def test_other_files_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(UsageError, match="not a"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "state",
    [
        [1, 2],
        {},
        {"model": {}, "optimizer": {}},
        {"model": [torch.ones(2)], "optimizer": {}, "progress": {}},
        {"model": {}, "optimizer": {}, "progress": 3},
        {"model": {}, "optimizer": {}, "progress": {"epoch": 1, "batch": 0}},
        {"model": {}, "optimizer": {}, "progress": {"epoch": 1, "batch": 0, "step": -1}},
        {"model": {}, "optimizer": {}, "progress": {"epoch": 1, "batch": 0, "step": "3"}},
        {"model": {}, "optimizer": {}, "progress": {"epoch": 1, "batch": 0, "step": 3, "more": 4}},
    ],
)
def test_another_programs_checkpoint_is_refused(tmp_path: Path, state: object) -> None:
    torch.save(state, tmp_path / CHECKPOINT)
    with pytest.raises(UsageError, match="not a checkpoint of mfcd-train; expected model, optimizer, progress"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere_is_an_error_of_one_line_or_none(tmp_path: Path, *, zipped: bool) -> None:
    state = {"model": {"a": torch.ones(3)}, "optimizer": {}, "progress": vars(Progress(1, 2, 3))}
    torch.save(state, tmp_path / CHECKPOINT, _use_new_zipfile_serialization=zipped)
    whole, rng = (tmp_path / CHECKPOINT).read_bytes(), np.random.default_rng(0)
    num_refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 9)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        size = len(damaged) if rng.random() < 0.8 else rng.integers(len(damaged))
        (tmp_path / CHECKPOINT).write_bytes(damaged[:size])
        try:
            load_checkpoint(tmp_path)
        except UsageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - nothing is refused for sure
            num_refused += 1
    assert num_refused > 200


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{tmp_path}: no checkpoint.pt; expected a run of mfcd-train"):
        load_checkpoint(tmp_path)


def test_an_unknown_checkpoint_is_answered_with_those_there_are(tmp_path: Path) -> None:
    for name in (CHECKPOINT, "best.pt"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=rf"{tmp_path}: no kept.pt; expected one of best.pt, checkpoint.pt$"):
        load_checkpoint(tmp_path, "kept.pt")


# Weights


def test_weights_that_fit_are_loaded(tmp_path: Path) -> None:
    weights, model = save(tmp_path), network()
    load_weights(model, weights, "run")
    assert is_same(model.state_dict(), weights)


def wrong(name: str) -> dict[str, Any]:
    weights: dict[str, Any] = dict(network().state_dict())
    changes: dict[str, Any] = {
        "missing": {},
        "extra": {"other.weight": torch.ones(1)},
        "shape": {"2.weight": torch.ones(2, 4)},
        "dtype": {"1.num_batches_tracked": torch.tensor(1.5)},
        "text": {"0.bias": "none"},
        "nan": {"0.bias": torch.tensor([1.0, torch.nan, 1.0])},
    }
    if name == "missing":
        del weights["0.weight"]
    return weights | changes[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "1 missing (0.weight)"),
        ("extra", "1 unexpected (other.weight)"),
        ("shape", "1 unfit (2.weight (2, 4) float32, expected (2, 3) float32)"),
        ("dtype", "1 unfit (1.num_batches_tracked () float32, expected () int64)"),
        ("text", "1 unfit (0.bias is no tensor)"),
        ("nan", "1 unfit (0.bias is not finite)"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_change_nothing(name: str, said: str) -> None:
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=re.escape(f"weights of runs/a do not fit: {said}; expected")):
        load_weights(model, wrong(name), "runs/a")
    assert is_same(model.state_dict(), before)


def test_another_networks_weights_are_counted() -> None:
    with pytest.raises(UsageError, match=r"7 unfit \(0.weight \(4, 2\) float32, expected .*, 3 more\)"):
        load_weights(network(3), network(4).state_dict(), "runs/a")
