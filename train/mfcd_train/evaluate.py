"""`mfcd-eval`: accuracy of a run on the test videos of a store, the report of several runs, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mfcd_core.console import main_of, print_json, say
from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.ablate_cli import ablate
from mfcd_train.build import build_fabric, load_model
from mfcd_train.checkpoint import BEST, CHECKPOINT
from mfcd_train.cost_cli import cost
from mfcd_train.dataset import PROTOCOLS, split_rows
from mfcd_train.evaluation import write_evaluation
from mfcd_train.evaluator import evaluate
from mfcd_train.features_cli import features
from mfcd_train.report import write_report
from mfcd_train.runlog import open_run
from mfcd_train.stage import stage_options, staged

PATH = click.Path(path_type=Path)


class DefaultGroup(click.Group):
    """A group whose first word may be left out: `mfcd-eval RUN STORE` means `mfcd-eval accuracy RUN STORE`."""

    DEFAULT = "accuracy"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command first unless another one, or the group's own help, is asked for."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self.DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group("mfcd-eval", cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Evaluate runs of mfcd-train: `mfcd-eval RUN STORE` is short for `mfcd-eval accuracy RUN STORE`."""


@cli.command(context_settings={"show_default": True})
@click.argument("run", type=PATH)
@click.argument("store", type=PATH)
@click.option("--split", default="", help="Name of the split.  [default: the one that the run was trained on]")
@click.option("--clips", type=click.IntRange(min=1), default=15, help="Clips a video.")
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="random",
    help="random: random GOPs and crops by seed, as the paper. spread: evenly spread GOPs, centre crop.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random protocol.")
@click.option("--checkpoint", default=CHECKPOINT, help=f"Which one of RUN: the last, {BEST}, or one that was kept.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@stage_options
@click.option("--json", "as_json", is_flag=True, help="Print the result on stdout.")
def accuracy(  # noqa: PLR0913 - one argument an option
    run: Path,
    store: Path,
    *,
    split: str,
    clips: int,
    protocol: str,
    seed: int,
    checkpoint: str,
    device: str,
    as_json: bool,
    **staging: Any,  # noqa: ANN401 - the options of `stage_options`
) -> int:
    """Accuracy of RUN on the test videos of STORE: clips and videos, top-1 and top-5, and by class.

    The softmax of a video's clips is averaged. The result is also written to RUN/evaluation.json.
    """
    log, opened = open_run(run), Store(store)
    if log.classes != list(opened.classes):
        raise UsageError(f"{run} knows classes {log.classes[:3]} ..., {store} has {list(opened.classes[:3])} ...")
    fabric = build_fabric(log.recipe, device)
    split = split or log.recipe.data.split
    test = split_rows(opened, split)["test"]
    with staged(opened, test, tells=fabric.local_rank == 0, **staging) as nearer:
        network = load_model(log, fabric, checkpoint)
        result = evaluate(fabric, network, nearer, log.recipe, split=split, clips=clips, seed=seed, protocol=protocol)
    result = {"run": str(run), "store": str(store), **result}
    if fabric.is_global_zero:
        _tell_result(run, result, as_json=as_json)
    return 0


def _tell_result(run: Path, result: dict[str, Any], *, as_json: bool) -> None:
    write_evaluation(run, result)
    if as_json:
        print_json(result)
    _say_result(result)


def _say_result(result: dict[str, Any]) -> None:
    say(f"{result['num_videos']} videos, {result['clips']} clips each ({result['protocol']}), {result['clip_format']}")
    for unit in ("clip", "video"):
        top1, top5 = result[f"{unit}/top1"], result[f"{unit}/top5"]
        say(f"{unit:5s} top-1 {top1:6.1%}   top-5 {top5:6.1%}")
    say(f"chance      {result['chance']:6.1%}")
    if result["num_videos_with_repeated_gops"]:
        say(f"{result['num_videos_with_repeated_gops']} videos have fewer GOPs than clips: some are drawn again")


@cli.command(context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="HTML file to write; it needs no other file.")
def report(store: Path, runs: tuple[Path, ...], *, out: Path) -> int:
    """One page on evaluated RUNS: accuracy beside chance, curves, and what the network is fed."""
    write_report(Store(store), [open_run(run) for run in runs], out)
    say(f"report: {out.resolve()}")
    return 0


cli.add_command(ablate)
cli.add_command(cost)
cli.add_command(features)
main = main_of(cli)
