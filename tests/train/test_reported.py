"""A late fusion in a report: beside runs, from the folder of `mfcd-eval fuse`, with accuracy and no training."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from tiny_runs import run_command
from training import error_line

from mfcd_train.evaluate import main
from mfcd_train.report_videos import MAX_SHOWN

if TYPE_CHECKING:
    from pathlib import Path

    from tiny_runs import Outcome


@pytest.fixture(scope="module")
def folders(
    tiny_store: Path, teacher_run: Path, student_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """An evaluated run, and a fusion of two on the same clips."""
    folder = tmp_path_factory.mktemp("reported")
    run, fused = shutil.copytree(teacher_run, folder / "alone"), folder / "together"
    options = ("--clips", 2, "--device", "cpu")
    assert run_command(main, run, tiny_store, *options).status == 0
    fuse = ("fuse", tiny_store, teacher_run, student_run, "--weights", "2,1", "--out", fused)
    assert run_command(main, *fuse, *options).status == 0
    return run, fused


def report(store: Path, out: Path, *folders: Path) -> Outcome:
    return run_command(main, "report", store, *folders, "--out", out)


def test_a_fusion_stands_beside_a_run(tiny_store: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    done = report(tiny_store, tmp_path / "page.html", *folders)
    assert done.status == 0, done.err
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    result = json.loads((folders[1] / "evaluation.json").read_text())
    assert f"together <small>{result['clip_format']}</small>" in text
    assert f"{result['clip/top1']:.1%}" in text
    assert "together \N{MINUS SIGN} alone" in text
    assert "figures do not compare" not in text
    assert text.count('<img class="confusion"') == 2
    assert text.count('title="together"') == len(result["per_class"])


def test_a_fusion_names_its_runs_with_their_weights(
    tiny_store: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    report(tiny_store, tmp_path / "page.html", *folders)
    text = " ".join((tmp_path / "page.html").read_text(encoding="utf-8").split())
    assert "together is a late fusion: the mean, by weight, of the softmax of teacher (2), student (1)." in text
    assert text.count("<summary>Recipe and versions of") == 1  # of the run alone


def test_a_fusion_alone_has_accuracy_and_no_training(
    tiny_store: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    assert report(tiny_store, tmp_path / "page.html", folders[1]).status == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h2>Accuracy</h2>" in text
    assert "<h2>Training</h2>" not in text
    assert 1 <= text.count('alt="video ') <= 2 * MAX_SHOWN


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runs": None}, "lacks what mfcd-eval writes"),
        ({"store_settings": {"width_px": 64}}, "is of another store"),
        ({"per_class": {"left": 1.0}}, "is of another store"),
    ],
)
def test_a_fusion_that_does_not_fit_is_refused(
    tiny_store: Path, folders: tuple[Path, Path], tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    fused = shutil.copytree(folders[1], tmp_path / "fused")
    result = json.loads((fused / "evaluation.json").read_text()) | changes
    kept = {name: value for name, value in result.items() if value is not None}
    (fused / "evaluation.json").write_text(json.dumps(kept))
    line = error_line(report(tiny_store, tmp_path / "page.html", fused))
    assert words in line
    assert line.endswith(f": run `mfcd-eval fuse {tiny_store} RUN RUN... --out {fused}` first")
    assert not (tmp_path / "page.html").exists()


def test_a_folder_of_neither_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    assert "expected the folder of a run of mfcd-train" in error_line(report(tiny_store, tmp_path / "p.html", tmp_path))
