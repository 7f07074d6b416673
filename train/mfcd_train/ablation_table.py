"""The table of an ablation: means over seeds, paired differences, and the paper's own figures beside them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from mfcd_train.ablation import FULL, TEACHER, TITLES
from mfcd_train.intervals import estimate
from mfcd_train.metrics import points
from mfcd_train.run_means import mean_over_splits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mfcd_train.ablation import Trial
    from mfcd_train.intervals import Estimate

MEASURES = {
    "video/top1": "video top-1",
    "clip/top1": "clip top-1",
    "video/top5": "video top-5",
    "clip/top5": "clip top-5",
}
SHOWN = ("video/top1", "clip/top1")
"""Measures in the table for people; files for programs have all."""
REFERENCES = {TEACHER: "\N{MINUS SIGN} RGB", FULL: "\N{MINUS SIGN} full"}
PAPER = {
    "HMDB51": {
        TEACHER: 69.6,
        FULL: 66.9,
        "student-no-teacher": 64.8,
        "student-residual": 64.4,
        "student-residual-only": 60.1,
    },
    "UCF101": {
        TEACHER: 94.1,
        FULL: 93.2,
        "student-no-teacher": 92.4,
        "student-residual": 92.5,
        "student-residual-only": 89.0,
    },
}
"""Video top-1 of Table 2 (first two rows, means over three splits) and Table 3 (split 1), percent."""
PAPER_MEASURE = "video/top1"
NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Line:
    """One row: by measure the accuracy, a share, and by reference row and measure its difference, paired by seed."""

    row: str
    clip_format: str
    accuracy: Mapping[str, Estimate]
    minus: Mapping[str, Mapping[str, Estimate]]

    @property
    def title(self) -> str:
        """Name of the row in the table."""
        return TITLES[self.row]


def build_lines(results: Mapping[Trial, Mapping[str, Any]], splits: Sequence[str]) -> list[Line]:
    """A line for each row with a seed that has all splits; of a seed the mean over splits counts."""
    shares = {(row, key): by_seed(results, splits, row, key) for row in TITLES for key in MEASURES}
    formats = {trial.row: str(result["clip_format"]) for trial, result in results.items()}
    return [
        Line(
            row,
            formats[row],
            {key: estimate(list(shares[row, key].values())) for key in MEASURES},
            {
                other: {key: estimate(pairs) for key in MEASURES if (pairs := _paired(shares, row, other, key))}
                for other in REFERENCES
                if other != row
            },
        )
        for row in TITLES
        if shares[row, SHOWN[0]]
    ]


def by_seed(results: Mapping[Trial, Mapping[str, Any]], splits: Sequence[str], row: str, key: str) -> dict[int, float]:
    """Mean over splits of a measure of a row, by seed; of seeds that have all splits."""
    shares = {(trial.seed, trial.split): float(found[key]) for trial, found in results.items() if trial.row == row}
    return mean_over_splits(shares, splits)


def _paired(shares: Mapping[tuple[str, str], Mapping[int, float]], row: str, other: str, key: str) -> list[float]:
    mine, theirs = shares[row, key], shares[other, key]
    return [mine[seed] - theirs[seed] for seed in mine if seed in theirs]


def accuracy_text(found: Estimate) -> str:
    """`95.8 ± 1.2`, percent."""
    return f"{100 * found.mean:.1f}{_half(found)}"


def difference_text(found: Estimate | None) -> str:
    """`+0.4 ± 1.2`, points; a dash where there is none."""
    return NONE if found is None else f"{points(found.mean)}{_half(found)}"


def _half(found: Estimate) -> str:
    return "" if found.half_width is None else f" \N{PLUS-MINUS SIGN} {100 * found.half_width:.1f}"


def paper_text(data: str, row: str) -> str:
    """The paper's figure, and its difference to the full method."""
    own, full = PAPER[data][row], PAPER[data][FULL]
    return f"{own:.1f}" if row == FULL else f"{own:.1f} ({points((own - full) / 100)})"


@dataclass(frozen=True)
class Table:
    """The table of one measure, for people: the cells of each line under the headings."""

    measure: str
    headings: Sequence[str]
    rows: Sequence[tuple[Line, Sequence[str]]]


def build_tables(lines: Sequence[Line]) -> list[Table]:
    """A table for each measure that is shown; the paper's figures stand beside those of videos, which they are."""
    tables = []
    for key in SHOWN:
        paper = list(PAPER) if key == PAPER_MEASURE else []
        headings = ["seeds", MEASURES[key], *REFERENCES.values(), *(f"paper: {data}" for data in paper)]
        tables.append(Table(key, headings, [(line, _cells(line, key, paper)) for line in lines]))
    return tables


def _cells(line: Line, key: str, paper: Sequence[str]) -> list[str]:
    found = line.accuracy[key]
    differences = [difference_text(line.minus.get(other, {}).get(key)) for other in REFERENCES]
    return [str(found.num), accuracy_text(found), *differences, *(paper_text(data, line.row) for data in paper)]


def to_markdown(lines: Sequence[Line], notes: Iterable[str]) -> str:
    """The tables with their notes."""
    return "\n".join(map(_as_markdown, build_tables(lines))) + "\n" + "".join(f"- {note}\n" for note in notes)


def _as_markdown(table: Table) -> str:
    ruler = ["---"] + ["---:"] * len(table.headings)
    rows = [["", *table.headings], ruler, *([line.title, *cells] for line, cells in table.rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_csv(lines: Iterable[Line]) -> str:
    """A row a figure: whose it is, what of, mean and interval in percent or points, and over how many seeds."""
    rows: list[list[object]] = [["source", "row", "measure", "figure", "mean", "low", "high", "num_seeds"]]
    for line in lines:
        for key in MEASURES:
            found = {"accuracy": line.accuracy[key]}
            found |= {f"minus {TITLES[other]}": by_key[key] for other, by_key in line.minus.items() if key in by_key}
            rows += [["here", line.title, key, figure, *_numbers(value)] for figure, value in found.items()]
    for data, figures in PAPER.items():
        rows += [
            [f"paper, {data}", TITLES[row], PAPER_MEASURE, "accuracy", f, "", "", ""] for row, f in figures.items()
        ]
    return _as_csv(rows)


def _numbers(found: Estimate) -> list[object]:
    mean, half = 100 * found.mean, found.half_width
    ends = ["", ""] if half is None else [f"{mean - 100 * half:.3f}", f"{mean + 100 * half:.3f}"]
    return [f"{mean:.3f}", *ends, found.num]


def runs_to_csv(results: Mapping[Trial, Mapping[str, Any]]) -> str:
    """A row a run: its accuracies as shares, and of what."""
    of_run = ["clip_format", "num_videos", "clips", "protocol", "frames", *MEASURES]
    rows: list[list[object]] = [["row", "split", "seed", *of_run]]
    rows += [[TITLES[t.row], t.split, t.seed, *(result[key] for key in of_run)] for t, result in results.items()]
    return _as_csv(rows)


def _as_csv(rows: Iterable[Sequence[object]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
