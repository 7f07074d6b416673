"""What the documents show works as written: the reader's code of docs/store-format.md, the commands of the README."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from tiny_runs import write_tiny_store

from mfcd_core.bench import cli as bench
from mfcd_core.store import Store
from mfcd_core.store.packer import Packer
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.cli import cli as prep
from mfcd_prep.damage import PROBLEMS
from mfcd_train.evaluate import cli as evaluate
from mfcd_train.export import cli as export
from mfcd_train.predict import cli as predict
from mfcd_train.recipe_files import load_recipe
from mfcd_train.train import cli as train

ROOT = Path(__file__).parents[2]
GROUPS: dict[str, click.Command] = {
    "mfcd-prep": prep,
    "mfcd-eval": evaluate,
    "mfcd-train": train,
    "mfcd-bench": bench,
    "mfcd-predict": predict,
    "mfcd-export": export,
}
DOCUMENTS = [ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "docs").rglob("*.md")]


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL)


def run_python(code: str, **names: Any) -> dict[str, Any]:  # noqa: ANN401 - as the code has it
    """What code leaves among its names."""
    exec(code, names)
    return names


@pytest.mark.parametrize("step", [1, 2])
def test_store_is_read_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    write_tiny_store(tmp_path, residual_step=step).rename(tmp_path / "STORE")
    monkeypatch.chdir(tmp_path)
    foreign, to_rgb, own = python_blocks(ROOT / "docs" / "store-format.md")
    own_of_readme, batches_of_readme = python_blocks(ROOT / "README.md")
    assert len([line for line in foreign.splitlines() if line]) <= 15  # the formatter adds empty ones
    assert "mfcd" not in foreign + to_rgb
    store = Store(tmp_path / "STORE")
    expected = store.read_gop(str(store.videos.ids[0]), 0)
    found = run_python(foreign + to_rgb)
    for plane, frames in expected.rebuild_planes().items():
        assert np.array_equal(found["frames"][plane], frames)
    assert np.abs(found["rgb"].astype(int) - expected.rebuild_frames()).max() <= 3
    for code in (own, own_of_readme):
        assert np.array_equal(run_python(code)["frames"], expected.rebuild_frames())
    found = run_python(own_of_readme + batches_of_readme)
    (batch,) = found["by_threads"]
    assert len(batch.labels) == len(store.videos) == len(found["by_processes"].dataset[0].labels)


SIZES = [(256, 256, "yuv420p"), (50, 34, "yuv420p"), (22, 14, "rgb24")]  # rows that fill their quads, and that do not


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize(("width", "height", "pixel_format"), SIZES)
def test_one_line_undoes_every_chunk_of_digits(width: int, height: int, pixel_format: str, step: int) -> None:
    """The line as documented, on values of the whole range."""
    (line,) = re.findall(r"^ {4}(reduce\(.*)$", (ROOT / "docs" / "store-format.md").read_text("utf-8"), re.MULTILINE)
    rng = np.random.default_rng(step)
    for array in StoreSettings(width, height, pixel_format=pixel_format, residual_step=step).stored_arrays():
        if not array.digits:
            continue
        limits = np.iinfo(array.dtype)
        values = rng.integers(limits.min, limits.max + 1, array.shape).astype(array.dtype)
        row = array.row_axis
        shape = (*array.shape[:row], -1, *array.shape[row + 1 :])
        chunk = Packer(array)(values)
        digits = chunk.reshape(*chunk.shape[: row + 2], -1)  # channels behind columns join them
        sums = [array.axes.index(axis) for axis in array.difference]
        names = {"np": np, "reduce": reduce, "d": digits, "sums": sums, "shape": shape}
        undone = run_python(f"plain = {line}", **names)["plain"]
        undone = undone.take(range(array.shape[row]), row)
        assert not ((undone - values) % array.modulo).any(), array.name


def subcommand(group: click.Command, name: str) -> click.Command | None:
    return group.get_command(click.Context(group), name) if isinstance(group, click.Group) else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist(document: Path) -> None:
    text = document.read_text("utf-8")
    for words in re.findall(r"^(?: {4}|.* && )?(mfcd-[a-z]+ .*(?:\\\n.*)*)", text, re.MULTILINE):
        program, *rest = words.replace("\\\n", " ").split()
        group = GROUPS[program]
        command = subcommand(group, rest[0]) or subcommand(group, "accuracy") or group
        assert command is not group or program not in {"mfcd-prep", "mfcd-bench"}, words
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known, words


def test_recipes_in_readme_exist() -> None:
    for name in re.findall(r"--recipe ([\w-]+)", (ROOT / "README.md").read_text("utf-8")):
        load_recipe(name)


def test_the_table_of_damage_has_every_problem_in_its_own_words() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \|", (ROOT / "docs" / "damage.md").read_text("utf-8"), re.MULTILINE)
    assert rows == list(PROBLEMS.items())
