"""One thread for torch: on a few shared cores its second thread only waits, and waits loudly."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from ablating import ablate
from clips import NUM_GOPS, STORED, write_gops
from staging import write_noise
from synthetic import random_gop
from tiny_runs import STUDENT, TEACHER, run_command, write_recipe, write_tiny_store

from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train.train import main as train

if TYPE_CHECKING:
    from pathlib import Path

    from tiny_runs import Outcome


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four videos; see `tiny_runs`."""
    return write_tiny_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def teacher_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "teacher.toml", TEACHER)


@pytest.fixture(scope="session")
def student_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe") / "student.toml", STUDENT)


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path, teacher_recipe: Path) -> Path:
    """The run folder of a trained teacher."""
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    done = run_command(train, tiny_store, "--recipe", teacher_recipe, "--out", folder, "--device", "cpu")
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="session")
def student_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_store: Path, student_recipe: Path, teacher_run: Path
) -> Path:
    """The run folder of a student of `teacher_run`."""
    folder = tmp_path_factory.mktemp("runs") / "student"
    arguments = ("--recipe", student_recipe, "--out", folder, "--teacher", teacher_run, "--device", "cpu")
    done = run_command(train, tiny_store, *arguments)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Store]:
    """Noise whose motion points anywhere in the picture, in every way of storing it."""
    random = np.random.default_rng(1)
    folder, found = tmp_path_factory.mktemp("stores"), {}
    for pixel_format, step in STORED:
        settings = StoreSettings(32, 32, gop_size=5, pixel_format=pixel_format, residual_step=step)
        gops = [random_gop(settings, random) for _ in range(NUM_GOPS)]
        found[pixel_format, step] = write_gops(folder / f"{pixel_format}-{step}", settings, gops)
    return found


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in five shards; see `staging`."""
    return write_noise(tmp_path_factory.mktemp("stage") / "store", seed=0)


@pytest.fixture
def store(noise: Path, tmp_path: Path) -> Store:
    return Store(shutil.copytree(noise, tmp_path / "store"))


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    return tmp_path / "local"


@pytest.fixture(scope="session")
def ablated(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> tuple[Path, Outcome]:
    """An ablation with two seeds: its folder, and what the command printed."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    done = ablate(tiny_store, out, "--seeds", 2, "--json")
    assert done.status == 0, done.err
    return out, done
