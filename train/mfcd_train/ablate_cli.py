"""`mfcd-eval ablate`: the paper's Tables 2 and 3 on the videos of a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfcd_core.atomic import replacing
from mfcd_core.console import print_json, say
from mfcd_core.store import Store
from mfcd_train.ablation import FAMILIES, TEACHER, TITLES, Ablation, Outcome, build_recipes, run_trials
from mfcd_train.ablation_notes import build_notes
from mfcd_train.ablation_page import write_ablation_page
from mfcd_train.ablation_table import build_lines, runs_to_csv, to_csv, to_markdown
from mfcd_train.build import build_fabric
from mfcd_train.dataset import PROTOCOLS, split_rows
from mfcd_train.preemption import PREEMPTED_STATUS, PreemptedError, sigterm_as_error
from mfcd_train.pretrained import read_pretrained
from mfcd_train.recipe_files import shipped_recipes
from mfcd_train.stage import stage_options, staged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_fabric import Fabric

PATH = click.Path(path_type=Path)
TABLE, MARKDOWN, RUNS = "ablation.csv", "ablation.md", "runs.csv"
ALL = "all"


EPILOG = "\b\nRows, and the recipes that they come from:\n" + "\n".join(
    f"  {title:<24} {shipped_recipes()[row]}" for row, title in TITLES.items()
)


@click.command("ablate", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.option(
    "--out", type=PATH, required=True, help="Folder of runs and tables; the same command again does what is missing."
)
@click.option(
    "--recipes",
    type=click.Choice(list(FAMILIES)),
    default="paper",
    help="paper: the full-size recipes (teacher, student ...). demo: their twins that fit a CPU.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=3, help="Number of seeds; every row is trained with each."
)
@click.option("--split", "splits", multiple=True, help=f"Split, more than one, or `{ALL}`.  [default: the first one]")
@click.option("--init", type=PATH, help="Weights that every row starts from.  [default: random ones by seed]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one recipe key in all rows, as in mfcd-train.",
)
@click.option("--clips", type=click.IntRange(min=1), default=15, help="Clips a video in evaluation.")
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="random",
    help="How they are chosen; see `accuracy --help`.",
)
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@stage_options
@click.option("--json", "as_json", is_flag=True, help="Print the result on stdout.")
def ablate(  # noqa: PLR0913 - one argument an option
    store: Path,
    *,
    out: Path,
    recipes: str,
    seeds: int,
    splits: tuple[str, ...],
    init: Path | None,
    overrides: tuple[str, ...],
    clips: int,
    protocol: str,
    device: str,
    as_json: bool,
    **staging: Any,  # noqa: ANN401 - the options of `stage_options`
) -> int:
    """Train and evaluate the paper's five networks on STORE, and write their table beside the paper's.

    All rows start from the same weights and have the same schedule and seeds. DIR/ablation.html, .md and .csv have
    means over seeds, paired differences and 95 % intervals; DIR/runs.csv has every run, DIR/runs their folders.
    """
    opened = Store(store)
    if init:
        read_pretrained(init)  # raises where there is none
    plan = Ablation(
        out, build_recipes(recipes, overrides), _parse_splits(opened, splits), seeds, init, clips, protocol, device
    )
    fabric = build_fabric(plan.recipes[TEACHER], device)
    try:
        outcome = _bring_to_end(plan, opened, fabric, staging)
    except PreemptedError as stopped:
        say(f"{stopped}; the same command goes on from here")
        if fabric.is_global_zero and as_json:
            print_json({"out": str(out), "preempted": True})
        return PREEMPTED_STATUS
    if fabric.is_global_zero:
        _tell(plan, opened, outcome, as_json=as_json)
    return 1 if outcome.failed else 0


def _bring_to_end(plan: Ablation, store: Store, fabric: Fabric, staging: Mapping[str, Any]) -> Outcome:
    """Every run, with tables after each."""
    rows = [rows for split in plan.splits for rows in split_rows(store, split).values()]
    outcome = Outcome()
    with sigterm_as_error(), staged(store, *rows, tells=fabric.local_rank == 0, **staging) as nearer:
        for outcome in run_trials(plan, nearer):
            if fabric.is_global_zero:
                _write_tables(plan, store, outcome)
    return outcome


def _parse_splits(store: Store, names: Sequence[str]) -> list[str]:
    """Names of splits, each once, in the store's order where all are asked for; an empty one where there are none."""
    known = list(store.splits) or [""]
    return known if ALL in names else list(dict.fromkeys(names)) or known[:1]


def _write_tables(plan: Ablation, store: Store, outcome: Outcome) -> None:
    lines, notes = build_lines(outcome.results, plan.splits), build_notes(plan, store, outcome.results)
    texts = {
        TABLE: to_csv(lines),
        MARKDOWN: to_markdown(lines, notes),
        RUNS: runs_to_csv(outcome.results),
    }
    for name, text in texts.items():
        with replacing(plan.out / name) as part:
            part.write_text(text, encoding="utf-8")
    write_ablation_page(plan, store, outcome, notes)


def _tell(plan: Ablation, store: Store, outcome: Outcome, *, as_json: bool) -> None:
    lines = build_lines(outcome.results, plan.splits)
    say(to_markdown(lines, build_notes(plan, store, outcome.results)).rstrip())
    for trial, reason in outcome.failed.items():
        say(f"failed: {trial}: {reason}")
    say(f"{len(outcome.results)} of {len(plan.trials)} runs are done; table: {(plan.out / 'ablation.html').resolve()}")
    if as_json:
        print_json(
            {
                "out": str(plan.out),
                "rows": [asdict(line) for line in lines],
                "runs": [
                    {"row": t.row, "split": t.split, "seed": t.seed, "folder": str(plan.folder_of(t)), **result}
                    for t, result in outcome.results.items()
                ],
                "failed": [{**asdict(trial), "reason": reason} for trial, reason in outcome.failed.items()],
                "notes": build_notes(plan, store, outcome.results),
            }
        )
