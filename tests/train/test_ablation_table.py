"""The table of an ablation, against arithmetic by hand on made-up accuracies."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import pytest

from mfcd_train.ablation import TITLES, Trial
from mfcd_train.ablation_table import MEASURES, build_lines, build_tables, runs_to_csv, to_csv, to_markdown

RGB, FULL, PLAIN = "teacher", "student", "student-no-teacher"
SHARES = {RGB: (0.90, 0.94, 0.98), FULL: (0.88, 0.93, 0.95), PLAIN: (0.80, 0.95, 0.80)}
"""Video top-1 by row, of seeds 0, 1, 2."""


def result(share: float) -> dict[str, Any]:
    told = {"clip_format": "rgb", "num_videos": 50, "clips": 15, "protocol": "random", "frames": 12}
    return {**told, **dict.fromkeys(MEASURES, share / 2), "video/top1": share}


def made(split: str = "one") -> dict[Trial, dict[str, Any]]:
    return {Trial(row, split, seed): result(s) for row, shares in SHARES.items() for seed, s in enumerate(shares)}


def test_means_and_paired_differences_are_those_by_hand() -> None:
    full = build_lines(made(), ["one"])[1]
    assert full.row == FULL
    assert full.accuracy["video/top1"].mean == pytest.approx(0.92)
    minus_rgb = full.minus[RGB]["video/top1"]  # -0.02, -0.01, -0.03: far closer together than the rows themselves
    assert (minus_rgb.mean, minus_rgb.num) == (pytest.approx(-0.02), 3)
    assert minus_rgb.half_width == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert full.accuracy["video/top1"].half_width == pytest.approx(4.3027 * 0.036056 / 3**0.5, rel=1e-3)
    assert full.minus[RGB]["clip/top1"].mean == pytest.approx(-0.01)
    assert FULL not in full.minus


def test_of_a_seed_the_mean_over_splits_counts() -> None:
    results = {trial: result(0.5) for trial in made("two")} | made()
    (rgb, *_) = build_lines(results, ["one", "two"])
    assert rgb.accuracy["video/top1"].mean == pytest.approx((0.94 + 0.5) / 2)
    assert rgb.accuracy["video/top1"].num == 3


def test_a_seed_without_one_of_its_splits_is_left_out() -> None:
    results = {trial: result(0.5) for trial in made("two")} | made()
    del results[Trial(RGB, "two", 2)]
    rgb, full, _ = build_lines(results, ["one", "two"])
    assert rgb.accuracy["video/top1"].num == 2
    assert rgb.accuracy["video/top1"].mean == pytest.approx((0.92 + 0.5) / 2)
    assert full.accuracy["video/top1"].num == 3
    assert full.minus[RGB]["video/top1"].num == 2
    assert full.minus[RGB]["video/top1"].mean == pytest.approx((-0.02 - 0.01) / 2 / 2)


def test_rows_without_a_run_are_left_out_and_the_first_of_the_others_has_nothing_to_be_compared_with() -> None:
    results = {Trial(PLAIN, "one", 0): result(0.5)}
    (line,) = build_lines(results, ["one"])
    ((_, cells),) = build_tables([line])[0].rows
    assert list(cells) == ["1", "50.0", "–", "–", "64.8 (−2.1)", "92.4 (−0.8)"]  # noqa: RUF001 - as printed
    assert build_lines({}, ["one"]) == []


def test_the_papers_figures_are_those_of_its_tables() -> None:
    """Table 2 has 69.6, 66.9, difference 2.7 and 94.1, 93.2, difference 0.9; Table 3 the rest."""
    lines = build_lines({Trial(row, "one", 0): result(0.5) for row in TITLES}, ["one"])
    table = build_tables(lines)[0]
    assert list(table.headings)[-2:] == ["paper: HMDB51", "paper: UCF101"]
    assert [tuple(cells)[-2:] for _, cells in table.rows] == [
        ("69.6 (+2.7)", "94.1 (+0.9)"),
        ("66.9", "93.2"),
        ("64.8 (−2.1)", "92.4 (−0.8)"),  # noqa: RUF001
        ("64.4 (−2.5)", "92.5 (−0.7)"),  # noqa: RUF001
        ("60.1 (−6.8)", "89.0 (−4.2)"),  # noqa: RUF001
    ]
    assert not [heading for heading in build_tables(lines)[1].headings if "paper" in heading]


def test_markdown_is_a_table_with_notes_below() -> None:
    first, ruler, rgb, *_ = to_markdown(build_lines(made(), ["one"]), ["a note"]).splitlines()
    assert first == "|  | seeds | video top-1 | − RGB | − full | paper: HMDB51 | paper: UCF101 |"  # noqa: RUF001
    assert ruler.count("|") == first.count("|")
    assert rgb.startswith("| RGB | 3 | 94.0 ± 9.9 | – | +2.0 ± 2.5 | 69.6")  # noqa: RUF001
    assert to_markdown([], ["a note"]).endswith("\n- a note\n")


def test_csv_has_a_row_a_figure_and_marks_the_papers() -> None:
    rows = list(csv.DictReader(StringIO(to_csv(build_lines(made(), ["one"])))))
    full = [r for r in rows if (r["row"], r["measure"], r["figure"]) == ("full method", "video/top1", "minus RGB")]
    assert [(r["source"], float(r["mean"]), r["num_seeds"]) for r in full] == [("here", -2.0, "3")]
    assert float(full[0]["low"]) == pytest.approx(-2 - 4.3027 / 3**0.5, abs=1e-3)
    paper = [r for r in rows if r["source"] == "paper, HMDB51" and r["row"] == "full method"]
    assert [(r["mean"], r["low"]) for r in paper] == [("66.9", "")]


def test_runs_have_their_own_file() -> None:
    rows = list(csv.DictReader(StringIO(runs_to_csv(made("a,b")))))
    assert len(rows) == 9
    assert (rows[0]["split"], float(rows[2]["video/top1"]), rows[3]["row"]) == ("a,b", 0.98, "full method")
