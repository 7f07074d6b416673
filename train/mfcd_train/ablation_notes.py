"""What a reader of an ablation's table has to know of its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mfcd_train.ablation import FULL, TEACHER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mfcd_core.store import Store
    from mfcd_train.ablation import Ablation, Trial
    from mfcd_train.config import Recipe

PAPER_NOTE = (
    "Paper: networks pre-trained on Kinetics, and other data: compare differences, not accuracies. RGB and full method "
    "are means over three splits (Table 2), the rest is of split 1 (Table 3, which has the same figures for the full "
    "method); in parentheses the difference to the full method."
)


def build_notes(ablation: Ablation, store: Store, results: Mapping[Trial, Mapping[str, Any]]) -> list[str]:
    """Sentences under the table: weights, schedule, losses, protocol, interval, and the paper's own figures."""
    common, full = ablation.recipes[TEACHER], ablation.recipes[FULL]
    return [
        _first_weights(ablation),
        f"Schedule: the same in every row, {_schedule(common)}; the seed fixes order, GOPs, crops and flips.",
        f"The full method mimics the RGB row of the same split and seed: {_losses(full)}.",
        "The other rows learn by cross entropy alone.",
        "RGB: frames rebuilt from the store, which are those of the re-encoded videos; the paper used the originals.",
        *_protocol(ablation, store, results),
        _interval(ablation),
        PAPER_NOTE,
    ]


def _first_weights(ablation: Ablation) -> str:
    origin = f"those of {ablation.init}" if ablation.init else "random ones, drawn by the seed"
    return (
        f"First weights: the same in every row, {origin}. The full method starts from these too, not from those of its "
        "teacher, as `mfcd-train --teacher` would do by default."
    )


def _schedule(recipe: Recipe) -> str:
    optim, data = recipe.optim, recipe.data
    return (
        f"{optim.epochs} epochs of {optim.optimizer}, {optim.schedule} schedule from {optim.learning_rate:g}, batches "
        f"of {data.batch_size}, crops of {data.crop_size} of {data.frame_size} pixels, width {recipe.model.width:g}, "
        f"depth {list(recipe.model.depth)}"
    )


def _losses(recipe: Recipe) -> str:
    distill = recipe.distill
    return (
        f"hint weight {distill.hint_weight:g} ({distill.hint_reduction}), soft weight {distill.soft_weight:g} "
        f"({distill.soft_direction}), temperature {distill.temperature:g}"
    )


def _protocol(ablation: Ablation, store: Store, results: Mapping[Trial, Mapping[str, Any]]) -> list[str]:
    """How the runs were evaluated, in all rows alike; empty before any was."""
    if not results:
        return []
    some = {trial.split: result for trial, result in results.items()}
    videos = ", ".join(f"{result['num_videos']} of {split}" for split, result in some.items())
    short = sum(result["num_videos_with_repeated_gops"] for result in some.values())
    drawn = f"; {short} videos have fewer GOPs than clips, some are drawn again" if short else ""
    percent = 100 / min(result["num_videos"] for result in some.values())
    said = (
        f"Evaluation: test videos ({videos}), {ablation.clips} clips each of {store.settings.gop_size} frames "
        f"({ablation.protocol}, seed 0: the same clips in every row), mean of softmax{drawn}. One video is "
        f"{percent:.1f} points. Weights: the last ones, not those that did best on test videos."
    )
    return [said]


def _interval(ablation: Ablation) -> str:
    if ablation.num_seeds < 2:
        return "One seed: there is no interval, and a difference may be chance; `--seeds 3` adds seeds."
    mean = "of the mean over splits " if len(ablation.splits) > 1 else ""
    return (
        f"\N{PLUS-MINUS SIGN}: 95 % interval {mean}over {ablation.num_seeds} seeds (Student's t); differences are "
        "paired by seed. It tells of the chance in training alone, not of which videos there are to test on."
    )
