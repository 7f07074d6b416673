"""The main job from videos to an evaluated student holds what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfcd_core.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first one waits for all that `demo` does

BIN = Path(sys.executable).parent


def read_result(command: str, *arguments: str | Path) -> dict[str, object]:
    done = subprocess.run([BIN / command, *arguments, "--json"], capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_every_frame_is_accounted_for(demo: Path) -> None:
    encoded, store = (read_result("mfcd-prep", "info", demo / folder) for folder in ("encoded", "store"))
    assert (encoded["videos"], encoded["failed"], encoded["frames_decoded"]) == (18, 0, 18 * 30)
    assert encoded["gops"] == store["gops"] == 18 * 2
    assert store["real_frames"] == encoded["frames"] == 18 * 24


def test_store_is_proven_against_the_encoded_videos(demo: Path) -> None:
    found = read_result("mfcd-prep", "verify", demo / "store", "--deep", demo / "encoded")
    assert (found["findings"], found["num_gops_audited"]) == ([], 36)


def test_residuals_are_smaller_than_differences(demo: Path) -> None:
    store = Store(demo / "store")
    residuals, differences = [], []
    for video_id in store.videos.ids[::3]:
        gop = store.read_gop(str(video_id), 0)
        luma = gop.rebuild_planes()["luma"].astype(int)
        residuals.append(np.abs(gop.residual["luma"]).mean())
        differences.append(np.abs(luma[1:] - luma[0]).mean())
    assert np.mean(residuals) < np.mean(differences)


def test_same_commands_again_do_nothing(demo: Path) -> None:
    encoded = read_result("mfcd-prep", "encode", demo / "videos", demo / "encoded", "--size", "80x80")
    store = read_result("mfcd-prep", "extract", demo / "encoded", demo / "store")
    assert (encoded["num_encoded"], store["num_shards_made"]) == (0, 0)


def test_student_is_evaluated_beside_its_teacher(demo: Path) -> None:
    teacher, student = (json.loads((demo / run / "evaluation.json").read_text()) for run in ("teacher", "student"))
    assert (teacher["clip_format"], student["clip_format"]) == ("rgb", "augmented")
    assert teacher["num_videos"] == student["num_videos"] == 6
    terms = [json.loads(line) for line in (demo / "student" / "metrics.jsonl").read_text().splitlines()]
    assert any("loss/hint" in record or "validation/clip/top1" in record for record in terms)


def test_report_needs_no_other_file(demo: Path) -> None:
    page = (demo / "report.html").read_text("utf-8")
    assert "data:image/png;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page
