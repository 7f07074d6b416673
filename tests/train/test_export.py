"""`mfcd-export`: files for other runtimes that compute what the network does, and never another thing in place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
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
    from tiny_runs import Outcome

ROOT = Path(__file__).parents[2]
KINDS = [pytest.param("onnx", marks=pytest.mark.slow), pytest.param("openvino", marks=pytest.mark.slow), "pt2"]
PACKAGES = {"onnx": ("onnxruntime", "onnxscript"), "openvino": ("openvino",), "pt2": ()}
NAMES = {"onnx": "network.onnx", "openvino": "network.xml", "pt2": "network.pt2"}


def export(run: Path, kind: str, out: Path, *arguments: object) -> Outcome:
    for package in PACKAGES[kind]:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return run_command(main, run, "--format", kind, "--out", out, *arguments)


@pytest.fixture(scope="module")
def real_clips_of_store(tiny_store: Path, teacher_run: Path) -> torch.Tensor:
    """Clips of five videos as mfcd-eval feeds them to the teacher."""
    store, recipe = Store(tiny_store), open_run(teacher_run).recipe
    draws = evaluation_draws(store, np.arange(5), 1, 0, "spread")
    assemble = build_assembler(store.settings, recipe.data)
    batches = iter_batches(store, draws, 2, with_motion=True, num_threads=1)
    return torch.cat([assemble(batch, ["rgb"])["rgb"] for batch in batches])


@pytest.fixture(scope="module", params=KINDS)
def exported(
    request: pytest.FixtureRequest, tiny_store: Path, teacher_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """An export of the teacher, checked on clips of the store it was trained on: its kind and its file."""
    out = tmp_path_factory.mktemp("exported") / "made" / NAMES[request.param]
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        done = export(teacher_run, request.param, out, "--store", tiny_store)
    assert not (home / "intel").exists()  # where OpenVINO counts what it reports
    assert done.status == 0, done.err
    assert f"3 clips of {tiny_store}" in done.err
    return request.param, out


def test_an_export_computes_the_logits_of_the_network_for_any_number_of_clips(
    exported: tuple[str, Path], teacher_run: Path, real_clips_of_store: torch.Tensor
) -> None:
    kind, out = exported
    network = read_network(open_run(teacher_run))
    run, _ = EXPORT_FORMATS[kind].load(out, 1)
    for num_clips in (1, 2, 5):
        clips = real_clips_of_store[:num_clips].contiguous()
        assert run(clips.numpy()) == pytest.approx(network(clips).numpy(), abs=1e-4)


def test_metadata_says_what_the_network_is_fed(exported: tuple[str, Path]) -> None:
    kind, out = exported
    _, stored = EXPORT_FORMATS[kind].load(out, 1)
    facts = json.loads(stored)
    assert facts["labels"] == ["down", "right"]
    assert facts["input"]["shape"] == ["batch", 3, 12, 28, 28]
    assert (facts["clip_format"], facts["mean"], facts["scale"]) == ("rgb", [124, 117, 104], 0.0167)
    assert facts["store_settings"]["gop_size"] == 12


def test_nothing_but_the_export_is_left_in_its_folder(exported: tuple[str, Path]) -> None:
    kind, out = exported
    files = {"onnx": ["network.onnx"], "openvino": ["network.bin", "network.xml"], "pt2": ["network.pt2"]}
    assert sorted(path.name for path in out.parent.iterdir()) == files[kind]


@pytest.mark.slow
def test_an_export_runs_without_this_package_as_documented(
    exported: tuple[str, Path], teacher_run: Path, real_clips_of_store: torch.Tensor, tmp_path: Path
) -> None:
    kind, out = exported
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text("utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if NAMES[kind] in block]
    assert len([line for line in example.splitlines() if line]) <= 12
    clip = real_clips_of_store[-1]
    levels = clip / 0.0167 + torch.tensor([124.0, 117.0, 104.0]).view(-1, 1, 1, 1)
    np.save(tmp_path / "levels.npy", levels.numpy())
    for file in out.parent.iterdir():
        (tmp_path / file.name).symlink_to(file)
    allowed = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "torch"}[kind]
    foreign = {"mfcd_core", "mfcd_train", "onnx", "onnxruntime", "openvino", "openvino_telemetry", "torch"} - {allowed}
    script = f"import sys\nsys.modules.update(dict.fromkeys({foreign}))\n{example}print(logits[0].tolist())\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    label, logits = done.stdout.splitlines()
    expected = read_network(open_run(teacher_run))(clip[None])[0]
    assert label == ("down", "right")[int(expected.argmax())]
    assert json.loads(logits) == pytest.approx(expected.tolist(), abs=1e-4)


def test_without_a_store_the_check_is_on_random_planes(student_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "network.pt2"
    done = export(student_run, "pt2", out)
    assert done.status == 0, done.err
    assert "3 clips of random planes" in done.err
    assert torch.export.load(out).example_inputs is None  # the clips are not in it


def test_a_file_that_computes_something_else_is_never_in_place(
    teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "network.pt2"
    out.write_text("an older export")
    good = EXPORT_FORMATS["pt2"]

    def load(path: Path, num_threads: int) -> Any:  # noqa: ANN401
        run, facts = good.load(path, num_threads)
        return (lambda clips: run(clips) + 0.1), facts

    monkeypatch.setitem(exporters.EXPORT_FORMATS, "pt2", replace(good, load=load))
    done = export(teacher_run, "pt2", out)
    assert done.status == 2
    assert "computes other logits" in done.err
    assert out.read_text() == "an older export"
    assert list(tmp_path.iterdir()) == [out]


def test_missing_packages_say_what_to_install(
    teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters, "find_spec", lambda name: None if name == "onnx" else object())
    done = run_command(main, teacher_run, "--format", "onnx", "--out", tmp_path / "network.onnx")
    assert done.status == 2
    assert done.err == "error: --format onnx needs onnx: pip install 'mfcd[export]'\n"


@pytest.mark.parametrize("kind", list(EXPORT_FORMATS))
def test_another_extension_is_refused(kind: str, teacher_run: Path, tmp_path: Path) -> None:
    done = export(teacher_run, kind, tmp_path / "network.bin")
    assert done.status == 2
    assert f"ends in {EXPORT_FORMATS[kind].extension}" in done.err
    assert list(tmp_path.iterdir()) == []
