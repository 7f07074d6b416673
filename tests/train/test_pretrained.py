"""Weights to start from: published files as their format is described, our own, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from golden import GOLDEN, assert_golden, fill_by_formula, published_names, write_published

from mfcd_core.errors import UsageError
from mfcd_train.checkpoint import BEST
from mfcd_train.models.mfnet3d import MFNet3D
from mfcd_train.pretrained import load_pretrained, read_pretrained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

from training import error_line, last_line, train, weights_of

KINETICS = [f"class {i}" for i in range(400)]
SMALL = {"width": 0.25, "depth": (1, 1, 1, 1)}


def small(num_classes: int = 3, seed: int = 0) -> MFNet3D:
    torch.manual_seed(seed)
    return MFNet3D(num_classes, **SMALL)  # type: ignore[arg-type]


# What is taken


@pytest.mark.parametrize(
    ("num_classes", "dtype", "tolerance"),
    [
        (400, torch.float32, 1e-3),
        pytest.param(400, torch.float64, 1e-6, marks=pytest.mark.slow),
        pytest.param(51, torch.float64, 1e-6, marks=pytest.mark.slow),
    ],
)
def test_a_published_file_gives_the_published_outputs(
    tmp_path: Path, num_classes: int, dtype: torch.dtype, tolerance: float
) -> None:
    source, network = MFNet3D(num_classes), MFNet3D(num_classes)
    fill_by_formula(source, GOLDEN[num_classes]["seed"])
    path = write_published(tmp_path / "MFNet3D.pth", source.state_dict(), published_names())
    assert path.read_bytes()[:2] == b"\x80\x02"  # a pickle, no zip archive
    said = load_pretrained(network, read_pretrained(path), KINETICS[:num_classes])
    assert said == f"{path}: {len(published_names())} of {len(published_names())} tensors"
    assert_golden(network, num_classes, dtype, tolerance)


def test_other_classes_get_a_new_classifier_and_it_is_said(tmp_path: Path) -> None:
    source, network = small(400, seed=1), small(101, seed=2)
    fresh = {name: entry.clone() for name, entry in network.classifier.state_dict().items()}
    path = write_published(tmp_path / "kinetics.pth", source.state_dict())
    said = load_pretrained(network, read_pretrained(path), KINETICS[:101])
    count = sum("num_batches" not in name for name in source.state_dict())
    assert said.startswith(f"{path}: {count - 2} of {count} tensors; ")
    assert said.endswith("its classifier of 400 other classes is left out, a new one of 101 begins")
    for name, entry in network.state_dict().items():
        expected = fresh[name.removeprefix("classifier.")] if "classifier" in name else source.state_dict()[name]
        assert torch.equal(entry, expected), name


def test_strings_of_python_2_are_read(tmp_path: Path) -> None:
    """Its pickles hold short byte strings where those of Python 3 hold text."""
    path = write_published(tmp_path / "old.pth", small().state_dict())
    content = path.read_bytes()
    old = b""
    for part in split_pickles(content):
        old += as_python_2(part)
    path.write_bytes(old)
    assert old != content
    network = small(seed=5)
    load_pretrained(network, read_pretrained(path), ["a", "b", "c"])
    assert torch.equal(network.conv1.conv.weight, small().conv1.conv.weight)


def split_pickles(content: bytes) -> list[bytes]:
    """The five pickles that a file of old begins with, and the bytes of its tensors."""
    parts = []
    for _ in range(5):
        end = max(position for _, _, position in pickletools.genops(content)) + 1  # type: ignore[type-var]
        parts.append(content[:end])
        content = content[end:]
    return [*parts, content]


def as_python_2(part: bytes) -> bytes:
    if not part.startswith(b"\x80\x02"):
        return part
    ops = [(op.name, argument, position) for op, argument, position in pickletools.genops(part)]
    out = b""
    for (name, argument, start), (_, _, stop) in zip(ops, [*ops[1:], ("", None, len(part))], strict=True):
        text = argument.encode() if name == "BINUNICODE" else b""
        out += b"U" + bytes([len(text)]) + text if name == "BINUNICODE" and len(text) < 256 else part[start:stop]
    return out


@pytest.mark.parametrize("form", ["folder", "file", "bare"])
def test_our_own_weights_are_taken_from_a_run_or_a_file(teacher_run: Path, tmp_path: Path, form: str) -> None:
    weights = weights_of(teacher_run)
    torch.save(weights, tmp_path / "bare.pth")
    path = {"folder": teacher_run, "file": teacher_run / "checkpoint.pt", "bare": tmp_path / "bare.pth"}[form]
    network = small(2, seed=9)
    said = load_pretrained(network, read_pretrained(path), ["down", "right"])
    assert said == f"{path}: {len(weights)} of {len(weights)} tensors"
    assert all(torch.equal(entry, weights[name]) for name, entry in network.state_dict().items())


@pytest.mark.parametrize("name", ["", BEST])
def test_a_run_of_other_classes_of_the_same_number_keeps_its_classifier_to_itself(teacher_run: Path, name: str) -> None:
    network = small(2, seed=9)
    fresh = network.classifier.weight.detach().clone()
    said = load_pretrained(network, read_pretrained(teacher_run / name), ["right", "down"])
    assert "classifier of 2 other classes is left out" in said
    assert torch.equal(network.classifier.weight, fresh)


def test_training_starts_from_a_published_file(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    source = small(400, seed=4)
    path = write_published(tmp_path / "kinetics.pth", source.state_dict())
    settings = ("--set", "optim.learning_rate=0", "--set", "optim.epochs=1", "--set", "optim.weight_decay=0")
    done = train(tiny_store, teacher_recipe, tmp_path / "run", "--init", path, *settings)
    assert done.status == 0, done.err
    assert "classifier of 400 other classes is left out, a new one of 2 begins" in done.err
    started = weights_of(tmp_path / "run")
    for name, entry in source.named_parameters():
        assert name.startswith("classifier") or torch.equal(started[name], entry), name


# What is refused


def refused(path: Path, network: MFNet3D | None = None) -> str:
    network = network or small()
    before = {name: entry.clone() for name, entry in network.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load_pretrained(network, read_pretrained(path), ["a", "b", "c"])
    assert all(torch.equal(entry, before[name]) for name, entry in network.state_dict().items())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(tmp_path: Path, changes: Mapping[str, Any]) -> Path:
    weights = {**small().state_dict(), **changes}
    return write_published(tmp_path / "a.pth", {name: entry for name, entry in weights.items() if entry is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1.bn.bias": None}, r"1 missing (conv1.bn.bias)"),
        ({"classifier.bias": None, "classifier.weight": None}, r"2 missing (classifier.weight, classifier.bias)"),
        ({"classifier.bias": None}, r"1 missing (classifier.bias)"),
        ({"conv9.weight": torch.ones(2)}, r"1 unexpected (conv9.weight)"),
        (
            {"conv1.conv.weight": torch.ones(16, 2, 3, 5, 5)},
            r"1 unfit (conv1.conv.weight (16, 2, 3, 5, 5) float32, expected (16, 3, 3, 5, 5) float32)",
        ),
        (
            {"classifier.weight": torch.ones(400, 191), "classifier.bias": torch.ones(400)},
            r"1 unfit (classifier.weight (400, 191) float32, expected (3, 192) float32)",
        ),
        (
            {"classifier.bias": torch.full((400,), torch.inf), "classifier.weight": torch.ones(400, 192)},
            r"1 unfit (classifier.bias (400,) float32, expected (3,) float32)",
        ),
        (
            {"classifier.bias": torch.ones(7), "classifier.weight": torch.ones(400, 192)},
            r"1 unfit (classifier.weight (400, 192) float32, expected (3, 192) float32)",
        ),
        ({"tail.bn.bias": torch.ones(192).half()}, r"tail.bn.bias (192,) float16, expected (192,) float32"),
        ({"tail.bn.bias": torch.full((192,), torch.nan)}, r"1 unfit (tail.bn.bias is not finite)"),
        ({"tail.bn.bias": torch.ones(192).to_sparse()}, r"1 entries that are no plain tensors (module.tail.bn.bias)"),
        ({"tail.bn.bias": "text"}, r"1 entries that are no plain tensors (module.tail.bn.bias)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: Mapping[str, Any], message: str) -> None:
    assert message in refused(changed(tmp_path, changes))


def test_another_network_is_counted(tmp_path: Path) -> None:
    path = write_published(tmp_path / "a.pth", MFNet3D(3, 0.25, (1, 1, 1, 2)).state_dict())
    said = refused(path)
    assert "unexpected (conv5.B02.conv_i1.bn.weight, conv5.B02.conv_i1.bn.bias, " in said
    assert said.count("conv5.B02") == 4
    assert "more)" in said


def test_a_prefix_of_some_names_alone_is_unexpected(tmp_path: Path) -> None:
    weights = small().state_dict()
    weights["module.tail.bn.bias"] = weights.pop("tail.bn.bias")
    torch.save({"state_dict": weights}, tmp_path / "a.pth")
    said = refused(tmp_path / "a.pth")
    assert "1 missing (tail.bn.bias)" in said
    assert "1 unexpected (module.tail.bn.bias)" in said


def test_counters_are_missing_all_or_none(tmp_path: Path) -> None:
    weights = small().state_dict()
    del weights["conv1.bn.num_batches_tracked"]
    torch.save(weights, tmp_path / "a.pth")
    assert "1 missing (conv1.bn.num_batches_tracked)" in refused(tmp_path / "a.pth")


def test_names_that_write_to_the_terminal_are_shown_as_text(tmp_path: Path) -> None:
    path = changed(tmp_path, {"\x1b[2J\nerror: all is well": torch.ones(1)})
    assert r"\x1b[2J\nerror" in refused(path)


class Attack:
    """What a pickle may do to those who load it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_pickle_is_executed(tiny_store: Path, teacher_recipe: Path, tmp_path: Path, *, zipped: bool) -> None:
    target, path = tmp_path / "executed", tmp_path / "hostile.pth"
    torch.save({"epoch": Attack(target)}, path, _use_new_zipfile_serialization=zipped)
    failed = train(tiny_store, teacher_recipe, tmp_path / "run", "--init", path)
    assert f"{path}: not a readable checkpoint" in last_line(failed)
    assert not target.exists()
    assert "Traceback" not in failed.err
    assert f"(it would call {os.mkdir.__module__}.mkdir); expected one of tensors alone" in last_line(failed)
    assert "weights_only" not in failed.err  # torch's own words tell how to execute it


def test_a_pickle_of_another_protocol_is_refused_in_one_line(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.pth"
    path.write_bytes(pickle.dumps(Attack(tmp_path / "executed"), protocol=4))
    failed = train(tiny_store, teacher_recipe, tmp_path / "run", "--init", path)
    assert failed.err.count("\n") == 1
    assert last_line(failed).startswith(f"error: {path}: not a readable checkpoint (no pickle of tensors); expected")


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04", b"<html>Not found</html>", b"\x80\x02}q\x00."])
def test_other_files_are_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    assert str(tmp_path / "a.pth") in refused(tmp_path / "a.pth")


@pytest.mark.parametrize("state", [[1], {}, {"state_dict": [1]}, {"state_dict": {}}, {"epoch": 3}, {1: torch.ones(1)}])
def test_checkpoints_without_weights_are_refused(tmp_path: Path, state: object) -> None:
    torch.save(state, tmp_path / "a.pth")
    said = refused(tmp_path / "a.pth")
    assert "expected a table of tensors" in said or "no plain tensors" in said


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_published(tmp_path / "a.pth", small().state_dict())
    content = path.read_bytes()
    for size in (100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert "not a readable checkpoint" in refused(path)


def test_a_missing_file_or_an_empty_folder_is_named(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.pth", tmp_path):
        failed = train(tiny_store, teacher_recipe, tmp_path / "run", "--init", path)
        assert str(path) in error_line(failed)


def test_pickles_of_tensors_alone_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": torch.ones(1)}, protocol=2))
    assert "not a readable checkpoint" in refused(tmp_path / "a.pth")


def test_classes_of_a_run_are_those_of_its_own_record(teacher_run: Path) -> None:
    assert list(read_pretrained(teacher_run).classes) == json.loads((teacher_run / "run.json").read_text())["classes"]
