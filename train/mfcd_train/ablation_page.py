"""The page of an ablation: its table beside the paper's, a picture of seeds and intervals, and every run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mfcd_train.ablation import TITLES
from mfcd_train.ablation_table import MEASURES, SHOWN, build_lines, build_tables, by_seed
from mfcd_train.page import write_page
from mfcd_train.pictures import AXES_COLOUR, STYLE, dress_axes, svg_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from mfcd_core.store import Store
    from mfcd_train.ablation import Ablation, Outcome, Trial
    from mfcd_train.ablation_table import Line

TEMPLATE = "ablation.html.j2"
COLOURS = {"video/top1": "#2b7fd4", "clip/top1": "#d9690f"}


def write_ablation_page(ablation: Ablation, store: Store, outcome: Outcome, notes: Sequence[str]) -> None:
    """Write DIR/ablation.html, of the runs that there are so far."""
    lines = build_lines(outcome.results, ablation.splits)
    write_page(
        ablation.out / "ablation.html",
        TEMPLATE,
        store=store,
        store_name=store.path.resolve().name,
        tables=build_tables(lines),
        picture=_picture(lines, outcome.results, ablation.splits, 1 / len(store.classes)) if lines else "",
        colours=COLOURS,
        measures=MEASURES,
        shown=SHOWN,
        notes=notes,
        titles=TITLES,
        outcome=outcome,
        num_trials=len(ablation.trials),
        recipes=ablation.recipes,
    )


def _picture(
    lines: Sequence[Line], results: Mapping[Trial, Mapping[str, Any]], splits: Sequence[str], chance: float
) -> str:
    """Accuracy of every row: a small dot a seed, a large one the mean, a bar the interval."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.8 + 0.5 * len(lines)), layout="constrained")
        axes = figure.add_subplot()
        for place, line in enumerate(lines):
            for number, (key, colour) in enumerate(COLOURS.items()):
                shares = list(by_seed(results, splits, line.row, key).values())
                _draw(axes, line, key, shares, place - 0.15 + 0.3 * number, colour)
        axes.set_xlim(*_within_shares(axes.get_xlim()))
        axes.set_yticks(range(len(lines)), [line.title for line in lines])
        axes.invert_yaxis()
        axes.axvline(chance, color=AXES_COLOUR, linestyle="dotted", linewidth=1.2)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        dress_axes(axes, "x")
        return svg_uri(figure)


def _within_shares(limits: tuple[float, float]) -> tuple[float, float]:
    return max(limits[0], 0), min(limits[1], 1.01)


def _draw(axes: Axes, line: Line, key: str, shares: Sequence[float], height: float, colour: str) -> None:
    found = line.accuracy[key]
    heights = [height] * len(shares)
    axes.plot(shares, heights, "o", markersize=4, color=colour, alpha=0.45, markeredgewidth=0)
    axes.errorbar(found.mean, height, xerr=found.half_width, fmt="o", markersize=7, color=colour, linewidth=1.8)
