"""`mfcd-prep doctor` in a process of its own, where the machine can be broken for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

DOCTOR = [sys.executable, "-c", "from mfcd_prep.cli import main; main()", "doctor", "--json"]


def diagnose(*prefix: str, folder: Path, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status and findings of the command in a process of its own."""
    command = [*prefix, *DOCTOR, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    values = json.loads(done.stdout)
    assert done.returncode == values["exit_status"]
    return done.returncode, {check["name"]: check for check in values["checks"]}


def mounting(script: str) -> list[str]:
    """A prefix that runs `script`, which mounts, and then the rest of the command in a name space of its own."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*prefix, script], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    return [*prefix, f'{script} && exec "$@"', "sh"]
