"""`mfcd-train`: from a store and a recipe to a run folder with a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfcd_core.console import main_of, print_json, say
from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.build import build_fabric, build_model, build_optimizer, load_model
from mfcd_train.checkpoint import CHECKPOINT, Progress, load_checkpoint, load_weights
from mfcd_train.dataset import split_rows
from mfcd_train.pretrained import load_pretrained, read_pretrained
from mfcd_train.recipe_files import load_recipe, shipped_recipes
from mfcd_train.runlog import begin_run, open_run
from mfcd_train.trainer import TEACHER_FORMAT, Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from mfcd_train.config import Recipe
    from mfcd_train.models.mfnet3d import MFNet3D
    from mfcd_train.runlog import RunLog

SEED = click.IntRange(0, 2**32 - 1)
EPILOG = "\b\nShipped recipes:\n" + "\n".join(f"  {name:<27} {what}" for name, what in shipped_recipes().items())


@click.command("mfcd-train", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--recipe", required=True, help="Name of a shipped recipe, or a TOML file.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder; the same command again resumes."
)
@click.option("--teacher", type=click.Path(path_type=Path), help="Run that the student mimics.")
@click.option(
    "--init",
    help="Weights to start from: a run, a published MFNet-3D (.pth), or `none`. Default: the teacher, if there is one.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one recipe key, as in optim.epochs=10."
)
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--seed", type=SEED, default=0, help="Seed of weights, order, crops and flips.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary on stdout.")
def cli(  # noqa: PLR0913 - one parameter an option
    store: Path,
    *,
    recipe: str,
    out: Path,
    teacher: Path | None,
    init: str | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
    as_json: bool,
) -> int:
    """Train MFNet-3D on STORE as a recipe says, into the run folder --out.

    A teacher sees the RGB rebuilt from the store; a student sees the compressed clip and mimics its teacher.
    """
    opened, resolved = Store(store), load_recipe(recipe, overrides)
    split_rows(opened, resolved.data.split)  # raises where there is nothing to train on
    _check_teacher(resolved, teacher)
    origin = {"teacher": _resolved(teacher), "init": init if init == "none" else _resolved(init or teacher)}
    run = begin_run(out, resolved, opened, seed, origin)
    fabric = build_fabric(resolved, device)
    progress = train(run, opened, fabric)
    metrics = run.read_metrics()
    if as_json:
        print_json(
            {"run": str(out), "epochs": progress.epoch, "steps": progress.step, **(metrics[-1] if metrics else {})}
        )
    return 0


def _resolved(path: Path | str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _check_teacher(recipe: Recipe, teacher: Path | None) -> None:
    if recipe.distill.needs_teacher and teacher is None:
        raise UsageError("the recipe has distill weights above 0: expected --teacher RUN, a run of a teacher recipe")
    if teacher is not None and not recipe.distill.needs_teacher:
        raise UsageError(
            "--teacher given, but distill.hint_weight and distill.soft_weight are 0: expected a student recipe"
        )


def train(run: RunLog, store: Store, fabric: Fabric) -> Progress:
    """Begin or resume `run` and bring it to its last epoch."""
    fabric.seed_everything(int(run.facts["seed"]), verbose=False)
    recipe = run.recipe
    model = build_model(recipe, len(store.classes))
    optimizer = build_optimizer(recipe.optim, model)
    state, progress = None, Progress()
    if (run.folder / CHECKPOINT).exists():
        state = load_checkpoint(run.folder)
        load_weights(model, state["model"], str(run.folder))
        progress = Progress(**state["progress"])
        say(f"resuming {run.folder} at epoch {progress.epoch} of {recipe.optim.epochs}, step {progress.step}")
    else:
        _initialise(model, run)
    teacher = _load_teacher(run, store, fabric) if recipe.distill.needs_teacher else None
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    wrapped.mark_forward_method("forward_with_hints")
    if state:
        wrapped_optimizer.load_state_dict(state["optimizer"])  # after setup: momentum goes where the weights are
    return Trainer(fabric, store, run, wrapped, wrapped_optimizer, teacher).fit(progress)


def _initialise(model: nn.Module, run: RunLog) -> None:
    init = run.facts["init"]
    if init is None or init == "none":
        say("starting from random weights")
        return
    say(f"starting from the weights of {load_pretrained(model, read_pretrained(Path(init)), run.classes)}")


def _load_teacher(run: RunLog, store: Store, fabric: Fabric) -> MFNet3D:
    folder = Path(run.facts["teacher"])
    teacher_run = open_run(folder)
    if teacher_run.classes != list(store.classes):
        raise UsageError(
            f"teacher {folder} knows {len(teacher_run.classes)} other classes: expected {len(store.classes)}"
        )
    if teacher_run.recipe.data.clip_format != TEACHER_FORMAT:
        raise UsageError(f"teacher {folder} was trained on {teacher_run.recipe.data.clip_format} clips, expected rgb")
    return load_model(teacher_run, fabric)


main = main_of(cli)
