"""Every command has help, every option says what it does, and mistakes end in one line and status 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from mfcd_prep.cli import cli as prep
from mfcd_train.evaluate import cli as evaluate
from mfcd_train.train import cli as train

BIN = Path(sys.executable).parent


def every_command() -> list[click.Command]:
    groups = (prep, evaluate)
    return [train, *groups, *(command for group in groups for command in group.commands.values())]


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
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments: list[str], words: str, tmp_path: Path) -> None:
    command = [str(BIN / arguments[0]), *arguments[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    message = done.stderr.strip().splitlines()[-1]
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert message
    assert list(tmp_path.iterdir()) == []
