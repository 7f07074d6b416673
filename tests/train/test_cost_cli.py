"""`mfcd-eval cost`: what it counts for options, for a run, and for a run with a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401 - importing it gives h5py the zstd filter
import pytest
from tiny_runs import NUM_GOPS, run_command
from training import error_line

from mfcd_train import cost_cli
from mfcd_train.evaluate import main

if TYPE_CHECKING:
    from pathlib import Path

    from tiny_runs import Outcome


@pytest.fixture
def without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_cli, "has_backbones", lambda: False)


def cost(*arguments: object) -> Outcome:
    return run_command(main, "cost", *arguments, "--device", "cpu")


def cost_json(*arguments: object) -> dict[str, Any]:
    done = cost(*arguments, "--json")
    assert done.status == 0, done.err
    result: dict[str, Any] = json.loads(done.out)
    return result


def own(result: dict[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in result["systems"]["MFCD-Net"]["figures"].items()}


def test_table_1_is_complete() -> None:
    pytest.importorskip("transformers")
    done = cost("--repeats", 0, "--json")
    result = json.loads(done.out)
    assert [*result["systems"]] == ["MFCD-Net", "CoViAR", "DMC-Net", "TTP", "ResNet-152", "ResNet-18", "MobileNetV2"]
    assert result["latency"] == {}
    words = [*result["systems"], "127.95 GFLOPs", "8.53 GFLOPs", "3615", "1050"]
    assert [word for word in words if word not in done.err] == []


@pytest.mark.usefixtures("without_peers")
def test_where_transformers_is_missing_one_line_says_what_to_install() -> None:
    done = cost("--repeats", 0, "--json")
    assert done.status == 0
    assert [*json.loads(done.out)["systems"]] == ["MFCD-Net"]
    (line,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert "pip install 'mfcd[baselines]'" in line


@pytest.mark.usefixtures("without_peers")
def test_frames_size_classes_and_clips_are_those_asked_for() -> None:
    result = cost_json("--frames", 8, "--size", "48x32", "--classes", 5, "--clips", 2, "--repeats", 1, "--threads", 1)
    assert result["systems"]["MFCD-Net"]["setting"] == "8x32x48, 5 classes, 2 clips"
    assert own(result)["fed_a_video"] == pytest.approx(2 * 3 * 8 * 32 * 48 / 1e6)
    assert own(result)["parameters"] == pytest.approx((7_996_368 - 395 * 769) / 1e6)
    assert result["fed"] == "random clips"
    assert result["machine"]["torch_threads"] == 1
    assert set(result["latency"]) == {"clip", "video"}


@pytest.mark.usefixtures("without_peers")
def test_a_square_is_cropped_from_larger_planes() -> None:
    result = cost_json("--frames", 2, "--size", 28, "--clips", 1, "--repeats", 1, "--threads", 1)
    assert result["fed"] == "random planes"
    assert set(result["latency"]["clip"]["shares"]) == {"assemble", "network"}
    assert sum(result["latency"]["clip"]["shares"].values()) == pytest.approx(1)


@pytest.mark.usefixtures("without_peers")
def test_a_run_is_counted_as_it_was_trained_and_its_store_is_read(student_run: Path, tiny_store: Path) -> None:
    result = cost_json(student_run, tiny_store, "--clips", 3, "--repeats", 1)
    assert result["systems"]["MFCD-Net"]["setting"] == ("12x28x28, 2 classes, 3 clips, width 0.25, depth [1, 1, 1, 1]")
    assert [*result["latency"]["video"]["shares"]] == ["read", "assemble", "network"]
    assert own(result)["stored_a_video"] == pytest.approx(3 * stored_bytes(tiny_store, motion=False) / 1e6)


@pytest.mark.usefixtures("without_peers")
def test_motion_is_read_for_rgb_alone(teacher_run: Path, tiny_store: Path) -> None:
    result = cost_json(teacher_run, tiny_store, "--clips", 1, "--repeats", 0)
    assert own(result)["stored_a_video"] == pytest.approx(stored_bytes(tiny_store, motion=True) / 1e6)


@pytest.mark.usefixtures("without_peers")
def test_a_run_without_a_store_is_timed_on_random_planes_of_its_settings(
    student_run: Path,
) -> None:
    result = cost_json(student_run, "--clips", 1, "--repeats", 1)
    assert result["fed"] == "random planes"
    assert "stored_a_video" not in own(result)


def stored_bytes(store: Path, *, motion: bool) -> float:
    """Mean bytes of a GOP's chunks, as HDF5 itself has them."""
    total = 0

    def add(name: str, item: object) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset) and (
            name.startswith(("iframe", "residual")) or (motion and name == "motion")
        ):
            total += item.id.get_storage_size()

    for path in store.glob("*.h5"):
        with h5py.File(path) as file:
            file.visititems(add)
    return total / (2 * sum(NUM_GOPS))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["no-such-run"], "no-such-run"), (["run", "--size", "64"], "a run has its own")],
)
def test_mistakes_are_one_line(arguments: list[str], words: str) -> None:
    assert words in error_line(cost(*arguments))


@pytest.mark.parametrize("size", ["224x", "8", "x224", "many", "5000x5000"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    done = cost("--size", size)
    assert done.status == 2
    assert size in done.err
