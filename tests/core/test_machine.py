"""What this machine is, beside what the system's own tools say."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mfcd_core import machine
from mfcd_core.machine import cpu_model, describe_machine, installed_version, memory_bytes, num_cores


def test_cores_are_those_of_nproc() -> None:
    assert num_cores() == int(subprocess.run(["nproc"], capture_output=True, text=True, check=True).stdout)


def test_a_pinned_process_has_fewer_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert num_cores() == 1


def test_memory_is_that_of_the_machine_or_less() -> None:
    found = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text("ascii"))
    assert found is not None
    assert 0 < memory_bytes() <= int(found[1]) * 1024


@pytest.mark.parametrize(
    ("limit", "expected"), [("1048576\n", 1 << 20), ("max\n", None), ("9223372036854771712", None)]
)
def test_a_container_may_have_less_memory(
    limit: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CGROUP_MEMORY", ())
    whole = memory_bytes()
    (tmp_path / "max").write_text(limit)
    monkeypatch.setattr(machine, "CGROUP_MEMORY", (tmp_path / "none", tmp_path / "max"))
    assert memory_bytes() == (expected or whole)


def test_versions_without_importing() -> None:
    assert installed_version("numpy") == np.__version__
    assert installed_version("no-such-package") is None


def test_the_description_is_plain_json() -> None:
    described = json.loads(json.dumps(describe_machine(["numpy", "no-such-package"])))
    assert described["packages"] == {"numpy": np.__version__, "no-such-package": None}
    assert described["processor"] == cpu_model() != ""
