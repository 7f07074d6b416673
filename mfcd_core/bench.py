"""The command `mfcd-bench`, and what every benchmark shares: runs, interleaved repetition, the result, its table."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table

from mfcd_core.console import main_of, print_json, progress, show
from mfcd_core.errors import MfcdError

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Collection, Mapping, Sequence

ENTRY_POINTS = "mfcd.bench"
STOP_SECONDS = 10.0  # what an interrupted process has to clean up in
MAX_MESSAGE_BYTES = 4096

repeats_option = click.option(
    "--repeats", type=click.IntRange(min=1), default=3, help="Rounds; every figure is a median over them."
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took: wall clock and CPU of every process and thread in it, seconds."""

    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Figure:
    """One figure, ours beside the peers'.

    peers: value by name; None where the peer did not run. limits: by peer, the ratio ours / peer that is not to
    be missed: at least this much, or at most where `lower_is_better`.
    """

    name: str
    unit: str
    ours: float
    peers: Mapping[str, float | None]
    limits: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: bool = False

    @property
    def ratios(self) -> dict[str, float]:
        """Ours / peer, for every peer that was there."""
        return {name: self.ours / value for name, value in self.peers.items() if value is not None}

    @property
    def missed(self) -> list[str]:
        """Peers whose limit does not hold."""
        sign = -1 if self.lower_is_better else 1
        ratios = self.ratios
        return [name for name, limit in self.limits.items() if name in ratios and sign * (ratios[name] - limit) < 0]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"peers": dict(self.peers), "ratios": self.ratios, "limits": dict(self.limits)}


@dataclass(frozen=True)
class BenchResult:
    """What a benchmark came to.

    headline: the figure that the limits are about. more: further figures of the same runs. facts: what was worked on
    and what else was found. runs: every run, by who ran. machine: see `describe_machine`.
    """

    headline: Figure
    more: tuple[Figure, ...]
    facts: Mapping[str, int | float | str]
    runs: Mapping[str, Sequence[Run]]
    machine: Mapping[str, Any]

    @property
    def exit_status(self) -> int:
        """0 every limit holds, 1 one is missed."""
        return 1 if any(figure.missed for figure in (self.headline, *self.more)) else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; unit, ours, peers, ratios and limits are the headline's (DESIGN 3)."""
        return self.headline.to_dict() | {
            "more": [figure.to_dict() for figure in self.more],
            "facts": dict(self.facts),
            "runs": {name: [asdict(run) for run in runs] for name, runs in self.runs.items()},
            "machine": dict(self.machine),
        }


def run_process(
    command: Sequence[str], folder: Path, accepted: Collection[int] = (0,), stdin: Path = Path(os.devnull)
) -> Run:
    """Run `command` in `folder` to its end, output thrown away; its CPU is that of the whole tree that it waited for.

    On Ctrl-C the tree is interrupted too, and waited for. Raises MfcdError on an exit status that is not `accepted`.
    """
    with tempfile.TemporaryFile() as log, stdin.open("rb") as source:
        start = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603, a list, no shell
            command, cwd=folder, stdin=source, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _stop(process)
            raise
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in accepted:
            said = _last_line(log) or "it said nothing"
            raise MfcdError(f"{' '.join(command)[:80]} ended with status {process.returncode}: {said}")
    return Run(wall, _cpu_seconds(usage))


def run_here(work: Callable[[], object]) -> Run:
    """Run `work` in this process, all its threads counted."""
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    return Run(time.perf_counter() - start, time.process_time() - cpu_start)


def interleave(contenders: Mapping[str, Callable[[], Run]], repeats: int) -> dict[str, tuple[Run, ...]]:
    """Run all contenders in their order, `repeats` times over: a slow spell of the machine hits them all."""
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    with progress("bench", len(contenders) * repeats, "runs") as advance:
        for _ in range(repeats):
            for name, contender in contenders.items():
                runs[name].append(contender())
                advance(1, name)
    return {name: tuple(taken) for name, taken in runs.items()}


def median_run(runs: Sequence[Run]) -> Run:
    """Median wall clock and median CPU."""
    return Run(*(statistics.median(values) for values in zip(*map(_as_tuple, runs), strict=True)))


def report(result: BenchResult, *, as_json: bool) -> int:
    """Show the table, on stdout the JSON if it is wanted, and return the exit status."""
    show(build_table(result))
    if as_json:
        print_json(result.to_dict())
    return result.exit_status


def build_table(result: BenchResult) -> Table:
    """A section a figure: one line for us and one a peer."""
    table = Table(box=box.SIMPLE_HEAD, caption=_caption(result), caption_justify="left")
    table.add_column(no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("ours/peer", justify="right", no_wrap=True)
    table.add_column("limit", no_wrap=True)
    for figure in (result.headline, *result.more):
        sense = "lower better" if figure.lower_is_better else "higher better"
        table.add_row(figure.name, figure.unit, "", sense, style="bold")
        table.add_row("  mfcd", _number(figure.ours))
        for name, value in figure.peers.items():
            table.add_row(f"  {name}", *_cells(figure, name, value))
        table.add_section()
    return table


class BenchGroup(click.Group):
    """Commands that installed packages declare as entry points; one that cannot be imported is absent."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names that are declared, sorted."""
        return sorted({*entry_points(group=ENTRY_POINTS).names, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None where its package, or one that it needs, is not installed."""
        for found in entry_points(group=ENTRY_POINTS, name=cmd_name):
            with suppress(ModuleNotFoundError):
                command: click.Command = found.load()
                return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=BenchGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="mfcd")
def cli() -> None:
    """Measure MFCD beside named peers, in one run on this machine; trust the ratios, not the absolute figures.

    All contenders take turns (A B C A B C) and every figure is a median. A table goes to stderr; --json puts
    {unit, ours, peers, ratios: ours / peer, limits, machine, and every single run} on stdout.
    A benchmark is listed where its package is installed: `encode` comes with mfcd[prep].

    Exit status: 0 measured, every limit holds; 1 measured, a ratio misses its limit; 2 wrong usage or nothing usable;
    130 interrupted.
    """


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process group as Ctrl-C does, so that it cleans up; kill what does not."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(STOP_SECONDS)
            return


def _cpu_seconds(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _last_line(log: IO[bytes]) -> str:
    log.seek(max(log.seek(0, os.SEEK_END) - MAX_MESSAGE_BYTES, 0))
    lines = log.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _as_tuple(run: Run) -> tuple[float, float]:
    return run.wall_seconds, run.cpu_seconds


def _cells(figure: Figure, name: str, value: float | None) -> tuple[str, str, str]:
    if value is None:
        return "did not run", "", ""
    limit = figure.limits.get(name)
    if limit is None:
        return _number(value), f"{figure.ratios[name]:.2f}", ""
    return _number(value), f"{figure.ratios[name]:.2f}", f"{limit:g} {'missed' if name in figure.missed else 'holds'}"


def _number(value: float) -> str:
    """Four digits that count."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _said(value: float | str) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def _caption(result: BenchResult) -> str:
    facts = [f"{name.replace('_', ' ')} {_said(value)}" for name, value in result.facts.items()]
    machine = f"{result.machine['cores']} cores of {result.machine['processor']}, Python {result.machine['python']}"
    return "\n".join(["; ".join(facts), machine])


main = main_of(cli, "interrupted: nothing was measured, what was written is removed")
