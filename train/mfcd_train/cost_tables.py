"""Tables of `mfcd-eval cost` for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from mfcd_train.latency import STAGES, add_up, shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mfcd_core.bench import Run
    from mfcd_train.cost import SystemCost

LABELS = {
    "parameters": "parameters",
    "macs": "MACs",
    "operations": "MACs, BN, ReLU",
    "macs_a_clip": "MACs a clip",
    "operations_a_clip": "MACs, BN, ReLU a clip",
    "macs_a_video": "MACs a video",
    "operations_a_video": "MACs, BN, ReLU a video",
    "weights": "weights, float32",
    "fed_a_video": "fed a video, 8 bits",
    "stored_a_video": "read a video, as stored",
}


def cost_table(systems: Iterable[SystemCost]) -> Table:
    """A section a system: its figures, the paper's own, and why they differ."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(no_wrap=True)
    table.add_column("counted", justify="right", no_wrap=True)
    table.add_column("paper", justify="right", no_wrap=True)
    table.add_column("difference")
    for system in systems:
        table.add_row(system.name, "", "", system.setting, style="bold")
        for name, figure in system.figures.items():
            paper = "" if figure.paper is None else f"{figure.paper:g}"
            table.add_row(f"  {LABELS[name]}", f"{figure.value:.2f} {figure.unit}", paper, figure.difference)
        table.add_section()
    return table


def latency_table(runs: Mapping[str, Mapping[str, Run]], caption: str) -> Table:
    """A line for one clip and one for one video: milliseconds, and what share of the wall clock each stage has."""
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    table.add_column("one", no_wrap=True)
    stages = [stage for stage in STAGES if stage in next(iter(runs.values()))]
    for heading in ("ms", "CPU ms", *stages):
        table.add_column(heading, justify="right", no_wrap=True)
    for unit, by_stage in runs.items():
        share, whole = shares(by_stage), add_up(by_stage)
        times = (f"{1000 * seconds:.0f}" for seconds in (whole.wall_seconds, whole.cpu_seconds))
        table.add_row(unit, *times, *(f"{share[stage]:.1%}" for stage in stages))
    return table
