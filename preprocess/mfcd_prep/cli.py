"""The command `mfcd-prep`: a table of subcommands, each loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from mfcd_core.console import main_of

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "sample": "sample_cli",
    "encode": "encode_cli",
    "extract": "store_cli",
    "verify": "store_cli",
    "repair": "repair_cli",
    "info": "store_cli",
    "show": "show_cli",
    "doctor": "doctor_cli",
}


class LazyGroup(click.Group):
    """So that `doctor` runs where packages of the others are missing, and `--help` answers at once."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """In the order of the work."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of a command. Raises ClickException where it lacks a package."""
        if cmd_name not in COMMANDS:
            return None
        try:
            module = import_module(f"mfcd_prep.{COMMANDS[cmd_name]}")
        except ImportError as error:
            raise click.ClickException(f"{cmd_name} needs a package ({error}): pip install 'mfcd[prep]'") from error
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="mfcd")
def cli() -> None:
    """From a folder of videos to a store that networks are trained from.

    Exit status: 0 all done; 1 done, but some videos failed (listed); 2 wrong usage or nothing usable;
    130 interrupted, nothing lost: run the same command again.
    """


main = main_of(cli)
