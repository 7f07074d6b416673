"""Every command has help, every option says what it does, and mistakes end in one line and status 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from tiny_runs import run_command

from mfcd_core.bench import cli as bench
from mfcd_prep.cli import cli as prep
from mfcd_prep.cli import main as prep_main
from mfcd_train.evaluate import cli as evaluate
from mfcd_train.evaluate import main as evaluate_main
from mfcd_train.export import cli as export
from mfcd_train.export import main as export_main
from mfcd_train.predict import cli as predict
from mfcd_train.predict import main as predict_main
from mfcd_train.train import cli as train
from mfcd_train.train import main as train_main

if TYPE_CHECKING:
    from pathlib import Path

MAINS = {
    "mfcd-prep": prep_main,
    "mfcd-train": train_main,
    "mfcd-eval": evaluate_main,
    "mfcd-predict": predict_main,
    "mfcd-export": export_main,
}


def every_command() -> list[click.Command]:
    found = [train, predict, export]
    for group in (prep, evaluate, bench):
        context = click.Context(group)
        commands = (group.get_command(context, name) for name in group.list_commands(context))
        found += [group, *(command for command in commands if command)]
    return found


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.name or "")
def test_command_and_options_have_help(command: click.Command) -> None:
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mfcd-prep", "encode", "no-such-folder", "out"], "no-such-folder"),
        (["mfcd-prep", "extract", "no-such-folder", "out"], "no-such-folder"),
        (["mfcd-prep", "verify", "no-such-folder"], "no-such-folder"),
        (["mfcd-prep", "verify", "no-such-folder", "--subset", "101%"], "101%"),
        (["mfcd-prep", "repair", "no-such-folder", "encoded"], "no-such-folder"),
        (["mfcd-prep", "info", "no-such-folder"], "no-such-folder"),
        (["mfcd-prep", "show", "no-such-video", "--out", "gop.png"], "no-such-video"),
        (["mfcd-prep", "encode", "--size", "12", "in", "out"], "12"),
        (["mfcd-train", "no-such-store", "--recipe", "teacher", "--out", "run"], "no-such-store"),
        (["mfcd-eval", "no-such-run", "no-such-store"], "no-such-run"),
        (["mfcd-predict", "no-such-run", "no-such-video"], "no-such-run"),
        (["mfcd-export", "no-such-run", "--format", "pt2", "--out", "out/network.pt2"], "no-such-run"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, *rest = arguments
    done = run_command(MAINS[program], *rest)
    assert done.status in {1, 2}
    assert words in done.err
    assert "Traceback" not in done.err
    assert done.err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_keys_of_recipes_are_shown_without_anything_else() -> None:
    done = run_command(train_main, "--keys")
    assert (done.status, done.err) == (0, "")
    shown = " ".join(done.out.split())
    assert "optim.label_smoothing = 0 share of a label that is spread over all classes; 0 to 0.99" in shown
