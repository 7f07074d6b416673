"""What is shown to a person, and what to a machine."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from mfcd_core import console

if TYPE_CHECKING:
    import pytest


def test_json_can_be_printed_whatever_the_encoding_of_stdout() -> None:
    script = "from mfcd_core.console import print_json; print_json({'id': '\\u65e5\\udcff'})"
    done = subprocess.run([sys.executable, "-X", "utf8=0", "-c", script], env={"PYTHONIOENCODING": "latin-1", **path()},
                          capture_output=True, check=True)  # fmt: skip
    assert done.stdout.split() == [b"{", b'"id":', b'"\\u65e5\\udcff"', b"}"]


def path() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path)}


def test_a_name_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("c/x:warning:y [red]z")
    assert capsys.readouterr().err == "c/x:warning:y [red]z\n"


def test_a_terminal_shows_rate_and_failures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "STDERR", Console(stderr=True, force_terminal=True, width=200, color_system=None))
    with console.progress("encode", 4, "videos") as advance:
        advance(4, "1 failed")
    said = capsys.readouterr().err
    assert "videos/s" in said
    assert "1 failed" in said
