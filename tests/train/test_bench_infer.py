"""`mfcd-bench infer`: every way to run the network computes the same clips."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from tiny_runs import run_command

from mfcd_core.console import main_of
from mfcd_train import bench_infer, exporters

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ONLY_PT2 = {name: replace(found, packages=("no_such_package",)) for name, found in exporters.EXPORT_FORMATS.items()}
ONLY_PT2["pt2"] = exporters.EXPORT_FORMATS["pt2"]


def test_every_export_is_a_peer_and_those_without_their_packages_did_not_run(
    teacher_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_infer, "EXPORT_FORMATS", ONLY_PT2)
    arguments = (teacher_run, "--batch-size", 2, "--passes", 1, "--repeats", 2, "--json")
    done = run_command(main_of(bench_infer.infer), *arguments)
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert result["unit"] == "clips/s/core"
    assert {name: value is None for name, value in result["peers"].items()} == {
        bench_infer.PLAIN: False,
        bench_infer.BF16: False,
        "onnx": True,
        "openvino": True,
        "pt2": False,
    }
    assert {len(runs) for runs in result["runs"].values()} == {2}
    assert result["ours"] > 0
    assert result["facts"]["clip"] == "3x12x28x28"
