"""mfcd-bench: runs of process trees, turns, ratios and limits, commands that packages declare."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mfcd_core import bench
from mfcd_core.bench import (
    BenchResult,
    Figure,
    Run,
    build_table,
    cli,
    interleave,
    median_run,
    report,
    run_here,
    run_process,
)
from mfcd_core.errors import MfcdError
from mfcd_core.machine import describe_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BURN = "import time\nwhile time.process_time() < {seconds}: pass"


def burn(seconds: float) -> list[str]:
    """A process that takes so much CPU."""
    return [sys.executable, "-S", "-c", BURN.format(seconds=seconds)]


def result_of(*figures: Figure) -> BenchResult:
    runs = {"mfcd": (Run(1.0, 2.0),)}
    return BenchResult(figures[0], figures[1:], {"videos": 3}, runs, describe_machine(["numpy"]))


SPEED = Figure("work", "frames/s", 100.0, {"plain": 80.0, "quick": 200.0, "rare": None}, {"plain": 1.0, "rare": 9.0})


# Runs


def test_cpu_of_a_process_counts_what_it_started(tmp_path: Path) -> None:
    """The shell's own CPU is nothing: what is seen is its child's child."""
    script = tmp_path / "burn.py"
    script.write_text(BURN.format(seconds=0.4))
    run = run_process(["sh", "-c", f"(sh -c '{sys.executable} -S {script}; true'); true"], tmp_path)
    assert 0.4 <= run.cpu_seconds < 4
    assert run.wall_seconds > 0


def test_a_sleeper_takes_time_but_no_cpu(tmp_path: Path) -> None:
    run = run_process(["sleep", "0.3"], tmp_path)
    assert run.wall_seconds >= 0.3
    assert run.cpu_seconds < 0.3


def test_work_in_this_process_is_measured() -> None:
    def work() -> None:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    assert run_here(work).cpu_seconds >= 0.1


def test_a_failure_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(MfcdError, match=r"ended with status 3: no luck"):
        run_process(["sh", "-c", "echo first >&2; echo no luck >&2; exit 3"], tmp_path)
    run_process(["sh", "-c", "exit 3"], tmp_path, accepted=(0, 3))


def test_a_process_reads_the_file_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello")
    run_process(["sh", "-c", "cat > out"], tmp_path, stdin=tmp_path / "in")
    assert (tmp_path / "out").read_text() == "hello"


def test_interrupt_reaches_the_process_and_waits_for_it(tmp_path: Path) -> None:
    script = 'trap "echo cleaned > said; exit" INT; sleep 0.2; kill -INT $PPID; while :; do sleep 0.1; done'
    with pytest.raises(KeyboardInterrupt):
        run_process(["sh", "-c", script], tmp_path)
    assert (tmp_path / "said").read_text() == "cleaned\n"


def test_a_process_deaf_to_interrupts_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "STOP_SECONDS", 0.5)
    script = 'trap "" INT; echo $$ > pid; sleep 0.2; kill -INT $PPID; sleep 60'
    with pytest.raises(KeyboardInterrupt):
        run_process(["sh", "-c", script], tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    def contender(name: str) -> Callable[[], Run]:
        def run() -> Run:
            turns.append(name)
            return Run(len(turns), 0)

        return run

    runs = interleave({name: contender(name) for name in "ABC"}, 3)
    assert "".join(turns) == "ABCABCABC"
    assert {name: [run.wall_seconds for run in taken] for name, taken in runs.items()} == {
        "A": [1, 4, 7],
        "B": [2, 5, 8],
        "C": [3, 6, 9],
    }


def test_medians_of_wall_and_cpu_are_taken_apart() -> None:
    assert median_run([Run(1, 30), Run(9, 10), Run(2, 20)]) == Run(2, 20)


# Figures


def test_ratios_are_ours_by_theirs() -> None:
    assert SPEED.ratios == {"plain": 1.25, "quick": 0.5}


@pytest.mark.parametrize(
    ("limits", "lower_is_better", "missed"),
    [
        ({"plain": 1.0}, False, []),
        ({"plain": 1.25}, False, []),
        ({"plain": 1.3}, False, ["plain"]),
        ({"plain": 1.3}, True, []),
        ({"plain": 1.2, "quick": 0.6}, True, ["plain"]),
        ({"rare": 5.0}, False, []),
    ],
)
def test_limits(limits: dict[str, float], missed: list[str], *, lower_is_better: bool) -> None:
    figure = Figure("work", "s", 100.0, SPEED.peers, limits, lower_is_better)
    assert figure.missed == missed
    assert result_of(figure).exit_status == (1 if missed else 0)
    assert result_of(SPEED, figure).exit_status == (1 if missed else 0)


def test_json_has_the_headline_at_its_top(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(result_of(SPEED, Figure("cpu", "s", 1.0, {"plain": 2.0})), as_json=True) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["unit"] == "frames/s"
    assert values["ours"] == 100
    assert values["peers"] == {"plain": 80, "quick": 200, "rare": None}
    assert values["ratios"] == {"plain": 1.25, "quick": 0.5}
    assert values["limits"] == {"plain": 1, "rare": 9}
    assert values["runs"] == {"mfcd": [{"wall_seconds": 1, "cpu_seconds": 2}]}
    assert values["machine"]["cores"] >= 1
    assert set(values["machine"]["packages"]) == {"numpy"}
    assert values["more"][0]["ratios"] == {"plain": 0.5}


def test_table_names_peers_that_did_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    report(result_of(SPEED), as_json=False)
    shown = capsys.readouterr()
    assert shown.out == ""
    rows = {line.split()[0]: line.split()[1:] for line in shown.err.splitlines() if line.strip()}
    assert rows["plain"] == ["80", "1.25", "1", "holds"]
    assert rows["quick"] == ["200", "0.50"]
    assert rows["rare"] == ["did", "not", "run"]
    assert build_table(result_of(SPEED, SPEED)).row_count == 2 * 5


# Commands


def declare(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, **commands: str) -> None:
    """Lay out a distribution as pip does, with a module and its entry points."""
    info = folder / "made_up-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    lines = [f"{name} = {target}\n" for name, target in commands.items()]
    (info / "entry_points.txt").write_text("[mfcd.bench]\n" + "".join(lines))
    (folder / "made_up_bench.py").write_text(module)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "made_up_bench", raising=False)


def test_commands_of_installed_packages_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "import click\n@click.command()\ndef paint():\n    'Paint walls.'\n    click.echo('painted')\n"
    declare(tmp_path, monkeypatch, module, paint="made_up_bench:paint", dig="made_up_dig:dig")
    shown = CliRunner().invoke(cli, ["--help"])
    assert "paint" in shown.output
    assert "Paint walls." in shown.output
    assert CliRunner().invoke(cli, ["paint"]).output == "painted\n"


def test_a_command_that_needs_what_is_not_installed_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(tmp_path, monkeypatch, "import no_such_package\n", dig="made_up_bench:dig")
    assert "dig" not in CliRunner().invoke(cli, ["--help"]).output
    refused = CliRunner().invoke(cli, ["dig"])
    assert refused.exit_code == 2
    assert "No such command 'dig'" in refused.output
