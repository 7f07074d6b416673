"""`mfcd-eval`: accuracy of a run on the test videos of a store, the report of several runs, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mfcd_core.console import main_of, print_json, say
from mfcd_core.store import Store
from mfcd_train.ablate_cli import ablate
from mfcd_train.build import build_fabric, load_model
from mfcd_train.checkpoint import BEST, CHECKPOINT
from mfcd_train.cost_cli import cost
from mfcd_train.dataset import split_rows
from mfcd_train.evaluation import keep_evaluation
from mfcd_train.evaluation_cli import check_fits, protocol_options, say_result
from mfcd_train.evaluator import evaluate
from mfcd_train.features_cli import features
from mfcd_train.fuse import fuse
from mfcd_train.report import write_report
from mfcd_train.reported import open_run_or_fusion
from mfcd_train.run_means import check_comparable, mean_of
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
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=PATH)
@click.argument("store", type=PATH)
@protocol_options
@click.option("--checkpoint", default=CHECKPOINT, help=f"Which one of RUN: the last, {BEST}, or one that was kept.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@stage_options
@click.option("--json", "as_json", is_flag=True, help="Print the result on stdout.")
def accuracy(  # noqa: PLR0913 - one argument an option
    runs: tuple[Path, ...],
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

    The softmax of a video's clips is averaged. RUN gets evaluation.json (all figures, their 95 % intervals over videos,
    and how they came about), confusion.csv and .png, and scores.npz with the scores of every clip.

    Of several runs of one recipe, with other splits or seeds, the mean over splits is told too, with its 95 % interval
    over seeds.
    """
    logs, opened = [open_run(run) for run in runs], Store(store)
    splits = [check_fits(log, opened, split) for log in logs]
    check_comparable(logs, splits)
    results = []
    for log, name in zip(logs, splits, strict=True):
        fabric = build_fabric(log.recipe, device)
        with staged(opened, split_rows(opened, name)["test"], tells=fabric.local_rank == 0, **staging) as nearer:
            model = load_model(log, fabric, checkpoint)
            found = evaluate(fabric, model, nearer, log.recipe, split=name, clips=clips, seed=seed, protocol=protocol)
        results.append(keep_evaluation(log, opened, found, checkpoint, writes=fabric.is_global_zero))
        say_result(results[-1])
    mean = mean_of(results)
    if len(results) > 1:
        _say_mean(mean)
    if fabric.is_global_zero and as_json:
        print_json({"runs": results, "mean": mean} if len(results) > 1 else results[0])
    return 0


def _say_mean(mean: dict[str, Any]) -> None:
    seeds, splits = len(mean["training_seeds"]), len(mean["splits"])
    say(f"mean over {splits} {'splits' if splits > 1 else 'split'}, {seeds} {'seeds' if seeds > 1 else 'seed'}")
    for unit in ("clip", "video"):
        say(f"{unit:5s} top-1 {_mean_text(mean[f'{unit}/top1'])}   top-5 {_mean_text(mean[f'{unit}/top5'])}")


def _mean_text(found: dict[str, Any]) -> str:
    half = found["half_width"]
    return f"{found['mean']:6.1%}" + ("" if half is None else f" \N{PLUS-MINUS SIGN} {100 * half:.1f}")


@cli.command(context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="HTML file to write; it needs no other file.")
def report(store: Path, runs: tuple[Path, ...], *, out: Path) -> int:
    """One page on evaluated RUNS: accuracy beside chance, curves, and what the network is fed.

    A folder that `mfcd-eval fuse` wrote stands beside runs: its accuracy, by class, and its videos; it has no curves.
    """
    write_report(Store(store), [open_run_or_fusion(run) for run in runs], out)
    say(f"report: {out.resolve()}")
    return 0


cli.add_command(ablate)
cli.add_command(cost)
cli.add_command(features)
cli.add_command(fuse)
main = main_of(cli)
