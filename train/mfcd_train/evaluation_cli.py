"""What the commands that evaluate have in common: options, what they refuse, what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np

from mfcd_core.console import say, warn
from mfcd_core.errors import UsageError
from mfcd_train.dataset import PROTOCOLS, split_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mfcd_core.store import Store
    from mfcd_train.runlog import RunLog

Command = TypeVar("Command", bound="Callable[..., object]")
OPTIONS = (
    click.option(
        "--split",
        default="",
        show_default=False,
        help="Name of the split.  [default: the one that the run was trained on]",
    ),
    click.option("--clips", type=click.IntRange(min=1), default=15, help="Clips a video."),
    click.option(
        "--protocol",
        type=click.Choice(list(PROTOCOLS)),
        default="random",
        help="random: random GOPs and crops by seed, as the paper. spread: evenly spread GOPs, centre crop.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random protocol."),
)


def protocol_options(command: Command) -> Command:
    """Add --split, --clips, --protocol and --seed to a command: which clips of which videos are scored."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def check_fits(run: RunLog, store: Store, split: str) -> str:
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


def say_result(result: Mapping[str, Any]) -> None:
    """The figures of an evaluation, with their intervals."""
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


def _interval(ends: Sequence[float]) -> str:
    return f" ({ends[0]:.1%} to {ends[1]:.1%})"
