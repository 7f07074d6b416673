"""What the documents show works as written: the reader's code of docs/store-format.md, the commands of the README."""

from __future__ import annotations

import re
from pathlib import Path

import click
import numpy as np
import pytest
from tiny_runs import write_tiny_store

from mfcd_core.bench import cli as bench
from mfcd_core.store import Store
from mfcd_prep.cli import cli as prep
from mfcd_prep.damage import PROBLEMS
from mfcd_train.config import load_recipe
from mfcd_train.evaluate import cli as evaluate
from mfcd_train.export import cli as export
from mfcd_train.predict import cli as predict
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


def test_store_is_read_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_store(tmp_path).rename(tmp_path / "STORE")
    monkeypatch.chdir(tmp_path)
    foreign, own = python_blocks(ROOT / "docs" / "store-format.md")
    (own_of_readme,) = python_blocks(ROOT / "README.md")
    assert len(foreign.strip().splitlines()) <= 15
    plain: dict[str, object] = {}
    ours: dict[str, object] = {}
    ours_of_readme: dict[str, object] = {}
    exec(foreign, plain)
    exec(own, ours)
    exec(own_of_readme, ours_of_readme)
    store = Store(tmp_path / "STORE")
    expected = store.read_gop(str(store.videos.ids[0]), 0)
    assert np.array_equal(np.stack(plain["frames"]), expected.rebuild_planes()["luma"])
    assert np.array_equal(ours["frames"], expected.rebuild_frames())
    assert np.array_equal(ours_of_readme["frames"], expected.rebuild_frames())


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
