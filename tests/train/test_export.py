"""`mfcd-export`: files for other runtimes that compute what the network does, and never another thing in place."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny_runs import run_command

from mfcd_core.store import Store
from mfcd_train import exporters
from mfcd_train.assemble import build_assembler
from mfcd_train.dataset import evaluation_draws
from mfcd_train.export import main, read_network
from mfcd_train.exporters import EXPORT_FORMATS
from mfcd_train.loader import iter_batches
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from pathlib import Path

    from tiny_runs import Outcome

PACKAGES = {"onnx": ("onnxruntime", "onnxscript"), "openvino": ("openvino", "onnxscript"), "pt2": ()}
NAMES = {"onnx": "network.onnx", "openvino": "network.xml", "pt2": "network.pt2"}


def export(run: Path, kind: str, out: Path, *arguments: object) -> Outcome:
    for package in PACKAGES[kind]:
        pytest.importorskip(package)
    return run_command(main, run, "--format", kind, "--out", out, *arguments)


@pytest.fixture(scope="module")
def real_clips_of_store(tiny_store: Path, teacher_run: Path) -> torch.Tensor:
    """Clips of five videos as mfcd-eval feeds them to the teacher."""
    store, recipe = Store(tiny_store), open_run(teacher_run).recipe
    draws = evaluation_draws(store, np.arange(5), 1, 0, "spread")
    assemble = build_assembler(store, recipe)
    return torch.cat([assemble(batch, ["rgb"])["rgb"] for batch in iter_batches(store, draws, 2, with_motion=True)])


@pytest.mark.parametrize("kind", list(EXPORT_FORMATS))
def test_an_export_computes_the_logits_of_the_network_for_any_number_of_clips(
    kind: str, tiny_store: Path, teacher_run: Path, real_clips_of_store: torch.Tensor, tmp_path: Path
) -> None:
    out = tmp_path / "exports" / NAMES[kind]
    done = export(teacher_run, kind, out, "--store", tiny_store)
    assert done.status == 0, done.err
    assert f"3 clips of {tiny_store}" in done.err
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(
        path.name for path in EXPORT_FORMATS[kind].files(out)
    )
    network = read_network(open_run(teacher_run))
    run, _ = EXPORT_FORMATS[kind].load(out)
    for num_clips in (1, 2, 5):
        clips = real_clips_of_store[:num_clips].contiguous()
        assert run(clips.numpy()) == pytest.approx(network(clips).numpy(), abs=1e-4)


@pytest.mark.parametrize("kind", list(EXPORT_FORMATS))
def test_metadata_says_what_the_network_is_fed(kind: str, student_run: Path, tmp_path: Path) -> None:
    out = tmp_path / NAMES[kind]
    done = export(student_run, kind, out)
    assert done.status == 0, done.err
    assert "3 clips of random planes" in done.err
    _, stored = EXPORT_FORMATS[kind].load(out)
    facts = json.loads(stored)
    assert facts["labels"] == ["down", "right"]
    assert facts["input"]["shape"] == ["batch", 3, 12, 28, 28]
    assert (facts["clip_format"], facts["mean"], facts["scale"]) == ("augmented", [124, 117, 104], 0.0167)
    assert facts["store_settings"]["gop_size"] == 12


def test_a_file_that_computes_something_else_is_never_in_place(
    teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "network.pt2"
    out.write_text("an older export")
    good = EXPORT_FORMATS["pt2"]

    def load(path: Path) -> Any:  # noqa: ANN401
        run, facts = good.load(path)
        return (lambda clips: run(clips) + 0.1), facts

    monkeypatch.setitem(exporters.EXPORT_FORMATS, "pt2", replace(good, load=load))
    done = export(teacher_run, "pt2", out)
    assert done.status == 2
    assert "computes other logits" in done.err
    assert out.read_text() == "an older export"
    assert list(tmp_path.iterdir()) == [out]


def test_openvino_is_written_without_reporting_it(
    teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = pytest.importorskip("openvino_telemetry")

    def report(*_arguments: object, **_options: object) -> None:
        raise AssertionError("telemetry was begun")

    monkeypatch.setattr(telemetry.Telemetry, "__init__", report)
    assert export(teacher_run, "openvino", tmp_path / "network.xml").status == 0


def test_missing_packages_say_what_to_install(
    teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters, "find_spec", lambda name: None if name == "onnx" else object())
    done = run_command(main, teacher_run, "--format", "onnx", "--out", tmp_path / "network.onnx")
    assert done.status == 2
    assert done.err == "error: .onnx files need onnx: pip install 'mfcd[export]'\n"


@pytest.mark.parametrize("kind", list(EXPORT_FORMATS))
def test_another_extension_is_refused(kind: str, teacher_run: Path, tmp_path: Path) -> None:
    done = export(teacher_run, kind, tmp_path / "network.bin")
    assert done.status == 2
    assert f"ends in {EXPORT_FORMATS[kind].extension}" in done.err
    assert list(tmp_path.iterdir()) == []
