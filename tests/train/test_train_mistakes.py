"""What cannot be trained is said in one line, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from synthetic import random_gop, write_store
from tiny_runs import run_command, write_tiny_store

from mfcd_core.store.settings import StoreSettings
from mfcd_train.checkpoint import CHECKPOINT
from mfcd_train.train import main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

from training import error_line, last_line, train


def noise_store(folder: Path, ids: Sequence[str], splits: Mapping[str, Mapping[str, Sequence[str]]]) -> Path:
    settings = StoreSettings(32, 32, gop_size=4)
    gop = random_gop(settings, np.random.default_rng(0))
    return write_store(folder, settings, {video_id: [gop] for video_id in ids}, splits)


def test_a_student_needs_a_teacher(tiny_store: Path, student_recipe: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, student_recipe, tmp_path / "run"))
    assert "distill weights above 0: expected --teacher RUN" in line
    assert not (tmp_path / "run").exists()


def test_a_teacher_needs_none(tiny_store: Path, teacher_recipe: Path, teacher_run: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", "--teacher", teacher_run))
    assert "--teacher given, but distill.hint_weight and distill.soft_weight are 0" in line


def test_a_store_without_labels_cannot_be_trained_on(teacher_recipe: Path, tmp_path: Path) -> None:
    store = noise_store(tmp_path / "store", ["a", "b"], {})
    assert "has no labelled videos: expected a folder a class" in error_line(
        train(store, teacher_recipe, tmp_path / "run")
    )
    assert not (tmp_path / "run").exists()


def test_an_unknown_split_is_named(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", "--set", "data.split=split9"))
    assert line == "split 'split9': expected one of only"


def test_a_teacher_of_other_classes_is_refused(student_recipe: Path, teacher_run: Path, tmp_path: Path) -> None:
    store = noise_store(tmp_path / "store", ["a/1", "b/1", "b/2"], {"s": {"train": ["a/1", "b/1"], "test": ["b/2"]}})
    failed = train(store, student_recipe, tmp_path / "run", "--teacher", teacher_run, "--init", "none")
    line = error_line(failed)
    assert line.startswith(f"teacher {teacher_run} knows 2 classes (down, right), the store has 2 (a, b): expected the")
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_was_trained_on_is_refused_by_a_run_that_began_with_it(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    teacher = shutil.copytree(teacher_run, tmp_path / "teacher")
    arguments = (tiny_store, student_recipe, tmp_path / "run", "--teacher", teacher)
    assert train(*arguments, "--set", "optim.epochs=1").status == 0
    state = torch.load(teacher / CHECKPOINT, weights_only=True)
    state["model"]["classifier.bias"][0] += 1e-6
    torch.save(state, teacher / CHECKPOINT)
    line = error_line(train(*arguments, "--set", "optim.epochs=1"))
    assert line == f"{tmp_path / 'run'}: teacher {teacher} has other weights by now; choose another --out"


@pytest.mark.parametrize(
    ("splits", "counts"),
    [
        ({"train": ["a/1", "b/1"]}, "train 2"),
        ({"train": [], "test": ["b/2"]}, "train 0, test 1"),
        ({"test": ["a/1", "b/2"]}, "test 2"),
    ],
)
def test_a_split_without_videos_to_train_or_test_with_is_refused(
    teacher_recipe: Path, tmp_path: Path, splits: Mapping[str, Sequence[str]], counts: str
) -> None:
    store = noise_store(tmp_path / "store", ["a/1", "b/1", "b/2"], {"s": splits})
    line = error_line(train(store, teacher_recipe, tmp_path / "run"))
    assert line == f"split 's' of {store} has {counts}: expected train and test videos"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", ["step", "classes", "trace"])
def test_a_run_goes_on_with_no_other_store(teacher_recipe: Path, tmp_path: Path, other: str) -> None:
    settings = {"step": {"residual_step": 4}, "trace": {"trace": "integer"}, "classes": {}}[other]
    first, out = write_tiny_store(tmp_path / "first"), tmp_path / "run"
    assert train(first, teacher_recipe, out, "--set", "optim.epochs=1").status == 0
    classes = ("down", "up") if other == "classes" else ("down", "right")
    second = write_tiny_store(tmp_path / "second", classes, **settings)
    line = error_line(train(second, teacher_recipe, out, "--set", "optim.epochs=1"))
    named = "classes" if other == "classes" else "store_settings"
    assert line.startswith(f"{out} holds a run with another store_checksum, ")
    assert named in line


def test_a_student_is_no_teacher(tiny_store: Path, student_recipe: Path, student_run: Path, tmp_path: Path) -> None:
    failed = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", student_run)
    assert "was trained on augmented clips, expected rgb" in last_line(failed)


def test_a_wrong_start_leaves_the_folder_free(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    failed = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", tmp_path / "nowhere")
    assert "expected" in error_line(failed)
    failed = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", teacher_run, "--init", tmp_path)
    assert f"{tmp_path}: no checkpoint.pt; expected a run of mfcd-train" in error_line(failed)
    mended = train(tiny_store, student_recipe, tmp_path / "run", "--teacher", teacher_run, "--set", "optim.epochs=1")
    assert mended.status == 0


def test_weights_of_another_network_are_refused(
    tiny_store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path
) -> None:
    failed = train(tiny_store, student_recipe, tmp_path, "--teacher", teacher_run, "--set", "model.depth=[1,1,1,2]")
    assert "do not fit" in error_line(failed)
    assert "conv5.B02" in error_line(failed)


@pytest.mark.parametrize("name", ["format", "format_version", "settings"])
def test_a_store_of_another_format_is_refused(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, name: str
) -> None:
    store = shutil.copytree(tiny_store, tmp_path / "store")
    index = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps({**index, name: "something"}))
    line = error_line(train(store, teacher_recipe, tmp_path / "run"))
    assert str(store) in line
    assert not (tmp_path / "run").exists()


def test_a_store_of_a_later_version_is_refused(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_store, store)
    index = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps({**index, "format_version": 2}))
    line = error_line(train(store, teacher_recipe, tmp_path / "run"))
    assert "format version 2, this reader knows 1; update mfcd" in line


def test_another_run_in_the_folder_is_refused(tiny_store: Path, teacher_recipe: Path, teacher_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in teacher_run.iterdir()}
    line = error_line(train(tiny_store, teacher_recipe, teacher_run, "--seed", 1, "--set", "data.flip=0.25"))
    assert "holds a run with another seed, data.flip; choose another --out" in line
    assert {path.name: path.read_bytes() for path in teacher_run.iterdir()} == before


def test_a_missing_store_or_recipe_is_named(tiny_store: Path, teacher_recipe: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in error_line(train(tmp_path / "nowhere", teacher_recipe, tmp_path / "run"))
    line = error_line(train(tiny_store, tmp_path / "nowhere.toml", tmp_path / "run"))
    assert "expected a TOML file or one of" in line


@pytest.mark.parametrize(
    "device", ["tpu", pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"))]
)
def test_a_device_that_is_not_there_is_refused(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, device: str
) -> None:
    outcome = run_command(main, tiny_store, "--recipe", teacher_recipe, "--out", tmp_path / "run", "--device", device)
    assert f"--device {device}: expected one of auto, cpu, cuda" in error_line(outcome)


def test_bf16_of_clips_that_torch_gets_wrong_on_a_cpu_is_refused(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path
) -> None:
    ids = ["a/1", "a/2", "b/1", "b/2"]
    short = noise_store(tmp_path / "store", ids, {"s": {"train": ids[::2], "test": ids[1::2]}})
    line = error_line(train(short, teacher_recipe, tmp_path / "run", "--set", "run.precision=bf16-mixed"))
    assert "bf16-mixed on a CPU with 4 frames of 28 pixels: expected at least 5 of 17" in line
    settings = ("--set", "run.precision=bf16-mixed", "--set", "data.crop_size=16")
    line = error_line(train(tiny_store, teacher_recipe, tmp_path / "run", *settings))
    assert "with 12 frames of 16 pixels" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_a_usage_error(
    tiny_store: Path, teacher_recipe: Path, tmp_path: Path, seed: int
) -> None:
    outcome = train(tiny_store, teacher_recipe, tmp_path / "run", "--seed", seed)
    assert outcome.status == 2
    assert "--seed" in outcome.err
    assert "Traceback" not in outcome.err


def test_damage_in_the_store_stops_the_run_and_names_it(teacher_recipe: Path, tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path)
    shard = store / "shard-00001.h5"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    failed = train(store, teacher_recipe, tmp_path / "run", "--set", "optim.epochs=20")
    assert "shard-00001.h5: GOP " in last_line(failed)
    assert "run mfcd-prep verify" in last_line(failed)
