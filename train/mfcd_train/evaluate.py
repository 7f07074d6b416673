"""`mfcd-eval`: accuracy of a run on the test videos of a store, the report of several runs, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from mfcd_core.console import main_of, print_json, say, warn
from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.ablate_cli import ablate
from mfcd_train.build import build_fabric, load_model
from mfcd_train.checkpoint import BEST, CHECKPOINT
from mfcd_train.cost_cli import cost
from mfcd_train.dataset import PROTOCOLS, split_rows
from mfcd_train.evaluation import keep_evaluation
from mfcd_train.evaluator import evaluate
from mfcd_train.features_cli import features
from mfcd_train.report import write_report
from mfcd_train.run_means import check_comparable, mean_of
from mfcd_train.runlog import open_run
from mfcd_train.stage import stage_options, staged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mfcd_train.runlog import RunLog

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
@click.option(
    "--split", default="", show_default=False, help="Name of the split.  [default: the one that the run was trained on]"
)
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
    splits = [_check_fits(log, opened, split) for log in logs]
    check_comparable(logs, splits)
    results = []
    for log, name in zip(logs, splits, strict=True):
        fabric = build_fabric(log.recipe, device)
        with staged(opened, split_rows(opened, name)["test"], tells=fabric.local_rank == 0, **staging) as nearer:
            model = load_model(log, fabric, checkpoint)
            found = evaluate(fabric, model, nearer, log.recipe, split=name, clips=clips, seed=seed, protocol=protocol)
        results.append(keep_evaluation(log, opened, found, checkpoint, writes=fabric.is_global_zero))
        _say_result(results[-1])
    mean = mean_of(results)
    if len(results) > 1:
        _say_mean(mean)
    if fabric.is_global_zero and as_json:
        print_json({"runs": results, "mean": mean} if len(results) > 1 else results[0])
    return 0


def _check_fits(run: RunLog, store: Store, split: str) -> str:
    """The split that a run is evaluated on: `split` or, where that is empty, its own.

    Raises UsageError where it knows other classes, or there is no such split. Warns of test videos it was trained on.
    """
    if run.classes != list(store.classes):
        known, has = run.classes[:3], list(store.classes[:3])
        raise UsageError(f"{run.folder} knows classes {known} ..., {store.path} has {has} ...")
    first = next(iter(store.splits), "")
    own = run.recipe.data.split or first
    name = split or own
    test = split_rows(store, name)["test"]
    seen = np.intersect1d(test, store.splits[own].get("train", ())) if own in store.splits else ()
    if len(seen):
        warn(f"{run.folder} was trained on {len(seen)} of the {len(test)} test videos of {name}: its split is {own}")
    return name


def _say_result(result: dict[str, Any]) -> None:
    how = f"{result['clips']} clips each ({result['protocol']}), {result['clip_format']}"
    say(f"{result['run']}: {result['num_videos']} videos of {result['split']}, {how}")
    for unit in ("clip", "video"):
        said = [
            f"top-{k} {result[f'{unit}/top{k}']:6.1%}{_interval(result['intervals'][f'{unit}/top{k}'])}" for k in (1, 5)
        ]
        say(f"{unit:5s} {'   '.join(said)}")
    say(f"chance      {result['chance']:6.1%}")
    if result["num_videos_with_repeated_gops"]:
        say(f"{result['num_videos_with_repeated_gops']} videos have fewer GOPs than clips: some are drawn again")


def _say_mean(mean: dict[str, Any]) -> None:
    seeds, splits = len(mean["training_seeds"]), len(mean["splits"])
    say(f"mean over {splits} {'splits' if splits > 1 else 'split'}, {seeds} {'seeds' if seeds > 1 else 'seed'}")
    for unit in ("clip", "video"):
        say(f"{unit:5s} top-1 {_mean_text(mean[f'{unit}/top1'])}   top-5 {_mean_text(mean[f'{unit}/top5'])}")


def _mean_text(found: dict[str, Any]) -> str:
    half = found["half_width"]
    return f"{found['mean']:6.1%}" + ("" if half is None else f" \N{PLUS-MINUS SIGN} {100 * half:.1f}")


def _interval(ends: Sequence[float]) -> str:
    return f" ({ends[0]:.1%} to {ends[1]:.1%})"


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
