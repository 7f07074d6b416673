"""`mfcd-eval fuse`: several runs that judge the same clips together, as CoViAR's three networks do (late fusion)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np

from mfcd_core.console import print_json
from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.build import build_fabric, load_model
from mfcd_train.checkpoint import weights_checksum
from mfcd_train.dataset import evaluation_draws, split_rows
from mfcd_train.evaluation import write_evaluation
from mfcd_train.evaluation_cli import check_fits, protocol_options, say_result
from mfcd_train.evaluator import judge_scores, num_frames_fed, score_clips
from mfcd_train.runlog import open_run
from mfcd_train.stage import stage_options, staged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mfcd_train.dataset import Draws
    from mfcd_train.runlog import RunLog

PATH = click.Path(path_type=Path)


@click.command("fuse", context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN RUN...")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the result.")
@click.option("--weights", help="Weights of the runs, such as 2,1,1.  [default: all the same]")
@protocol_options
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@stage_options
@click.option("--json", "as_json", is_flag=True, help="Print the result on stdout.")
def fuse(  # noqa: PLR0913 - one argument an option
    store: Path,
    runs: tuple[Path, ...],
    *,
    out: Path,
    weights: str | None,
    split: str,
    clips: int,
    protocol: str,
    seed: int,
    device: str,
    as_json: bool,
    **staging: Any,  # noqa: ANN401 - the options of `stage_options`
) -> int:
    """Accuracy on the test videos of STORE of several RUNs together: the mean, by weight, of their softmax scores.

    All of them see the same GOPs and places of crops. OUT gets what `mfcd-eval RUN STORE` writes into a run;
    evaluation.json names the runs and their weights.
    """
    opened, logs, shares = Store(store), [open_run(run) for run in runs], _parse_weights(weights, len(runs))
    name = _common_split([check_fits(log, opened, split) for log in logs])
    test = split_rows(opened, name)["test"]
    draws = evaluation_draws(opened, test, clips, seed, protocol)
    fabric = build_fabric(logs[0].recipe, device)
    with staged(opened, test, tells=fabric.local_rank == 0, **staging) as nearer:
        scored = [_score(log, nearer, draws, device) for log in logs]
    frames = sum(num_frames_fed(log.recipe, opened) for log in logs)
    how = {"clips": clips, "protocol": protocol, "seed": seed, "split": name, "frames": frames}
    how |= _name_all(logs, scored)
    fused = judge_scores(fuse_scores([each.scores for each in scored], shares), opened, draws, how)
    result = {"run": str(out), "runs": _list_runs(logs, shares), "store": str(store), **fused.result}
    if fabric.is_global_zero:
        out.mkdir(parents=True, exist_ok=True)
        write_evaluation(out, opened, fused, result)
        if as_json:
            print_json(result)
    say_result(result)
    return 0


def fuse_scores(scores: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """The mean by weight of scores of the same clips, each (n, classes); rows that sum up to one still do."""
    mean: NDArray[np.float32] = np.average(np.stack(scores), axis=0, weights=weights).astype(np.float32)
    return mean


class _Scored(NamedTuple):
    """Softmax of each clip by the network of a run, (n, classes) float32, and the checksum of its weights."""

    scores: NDArray[np.float32]
    weights_checksum: str


def _score(log: RunLog, store: Store, draws: Draws, device: str) -> _Scored:
    fabric = build_fabric(log.recipe, device)
    network = load_model(log, fabric)
    return _Scored(score_clips(fabric, network, store, log.recipe, draws), weights_checksum(network.state_dict()))


def _list_runs(logs: Sequence[RunLog], weights: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"run": str(log.folder), "weight": weight, "training_seed": int(log.facts["seed"])}
        for log, weight in zip(logs, weights, strict=True)
    ]


def _name_all(logs: Sequence[RunLog], scored: Sequence[_Scored]) -> dict[str, str]:
    return {
        "clip_format": " + ".join(log.recipe.data.clip_format for log in logs),
        "weights_checksum": " + ".join(each.weights_checksum for each in scored),
    }


def _parse_weights(text: str | None, num_runs: int) -> list[float]:
    if num_runs < 2:
        raise UsageError("fuse of one run: expected two or more; `mfcd-eval RUN STORE` evaluates one")
    if text is None:
        return [1.0] * num_runs
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != num_runs or not all(0 < weight < math.inf for weight in weights):
        raise UsageError(f"--weights {text}: expected {num_runs} numbers above 0, one a run, such as 2,1,1")
    return weights


def _common_split(splits: Sequence[str]) -> str:
    if len(set(splits)) > 1:
        raise UsageError(f"runs were trained on splits {', '.join(splits)}: expected one; choose it by --split")
    return splits[0]
