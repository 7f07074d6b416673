"""`mfcd-train`: from a store and a recipe to a run folder with a trained network."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from mfcd_core.console import main_of, print_json, print_list, say, warn
from mfcd_core.errors import MfcdError, UsageError
from mfcd_core.store import Store
from mfcd_train.build import (
    build_average,
    build_fabric,
    build_model,
    build_optimizer,
    check_training,
    load_model,
    setup,
)
from mfcd_train.checkpoint import (
    CHECKPOINT,
    UNAVERAGED,
    Progress,
    load_checkpoint,
    load_weights,
    weights_checksum,
)
from mfcd_train.config import MFNET3D, describe_keys
from mfcd_train.dataset import split_rows
from mfcd_train.preemption import PREEMPTED_STATUS, PreemptedError, sigterm_as_wish
from mfcd_train.pretrained import load_pretrained, read_pretrained
from mfcd_train.recipe_files import load_recipe, shipped_recipes
from mfcd_train.report import write_report
from mfcd_train.runlog import REPORT, begin_run, claimed, open_run
from mfcd_train.schedule import is_over
from mfcd_train.sharing import check_shares
from mfcd_train.stage import stage_options, staged
from mfcd_train.trainer import TEACHER_FORMAT, Trainer
from mfcd_train.watchers import find_wandb, open_tensorboard, open_wandb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_fabric import Fabric
    from torch import nn

    from mfcd_train.config import Recipe
    from mfcd_train.models.mfnet3d import MFNet3D
    from mfcd_train.runlog import RunLog
    from mfcd_train.watchers import Watcher

SEED = click.IntRange(0, 2**32 - 1)
EPILOG = "\b\nShipped recipes:\n" + "\n".join(f"  {name:<27} {what}" for name, what in shipped_recipes().items())


def _print_keys(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's
    if is_asked:
        print_list("Recipe keys (--set KEY=VALUE), as they are where a recipe says nothing", describe_keys())
        context.exit()


@click.command(
    "mfcd-train", epilog=EPILOG, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]}
)
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--recipe", required=True, help="Name of a shipped recipe, or a TOML file.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder; the same command again resumes."
)
@click.option("--teacher", type=click.Path(path_type=Path), help="Run that the student mimics.")
@click.option(
    "--init",
    help="Weights to start from: a run, a published MFNet-3D or torchvision ResNet (.pth), or `none`. Default: the "
    "teacher, if there is one.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one recipe key, as in optim.epochs=10."
)
@click.option(
    "--keys",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_keys,
    help="Show all recipe keys and exit.",
)
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--seed", type=SEED, default=0, help="Seed of weights, order, crops and flips.")
@click.option("--deterministic", is_flag=True, help="The same numbers from the same command; slower on a GPU.")
@click.option("--wandb", is_flag=True, help="Log to Weights & Biases, if installed; offline unless WANDB_MODE is set.")
@stage_options
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
    deterministic: bool,
    wandb: bool,
    as_json: bool,
    **staging: Any,  # noqa: ANN401 - the options of `stage_options`
) -> int:
    """Train the network of a recipe on STORE, into the run folder --out.

    A teacher sees the RGB rebuilt from the store; a student sees the compressed clip and mimics its teacher.
    """
    opened, resolved = Store(store), load_recipe(recipe, overrides)
    rows = split_rows(opened, resolved.data.split)  # raises where there is nothing to train on
    _check_teacher(resolved, teacher)
    if wandb:
        find_wandb()
    fabric = build_fabric(resolved, device, deterministic=deterministic)
    with (
        begun(out, resolved, opened, fabric, seed=seed, teacher=teacher, init=init) as run,
        staged(opened, *rows.values(), tells=fabric.local_rank == 0, **staging) as nearer,
    ):
        status, last = _train_to_the_end(run, nearer, fabric, wandb=wandb)
    if fabric.is_global_zero and as_json:
        print_json({"run": str(out), **last})
    return status


def _train_to_the_end(run: RunLog, store: Store, fabric: Fabric, *, wandb: bool) -> tuple[int, dict[str, Any]]:
    """Exit status and summary."""
    try:
        progress = train(run, store, fabric, wandb=wandb)
    except PreemptedError as stopped:
        say(f"{stopped}; the same command goes on from here")
        return PREEMPTED_STATUS, {"preempted": True}
    if fabric.is_global_zero and run.recipe.run.report:
        _write_page(run, store)
    metrics = run.read_metrics() if fabric.is_global_zero else []
    return 0, {"epochs": progress.epoch, "steps": progress.step, **(metrics[-1] if metrics else {})}


def _write_page(run: RunLog, store: Store) -> None:
    page = run.folder / REPORT
    try:
        write_report(store, [run], page, with_accuracy=False)
        say(f"report: {page}")
    except (MfcdError, OSError) as error:
        warn(f"{page} cannot be written, the run is whole: {error}")


def _resolved(path: Path | str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _check_teacher(recipe: Recipe, teacher: Path | None) -> None:
    if recipe.distill.needs_teacher and teacher is None:
        raise UsageError("the recipe has distill weights above 0: expected --teacher RUN, a run of a teacher recipe")
    if teacher is not None and not recipe.distill.needs_teacher:
        raise UsageError(
            "--teacher given, but distill.hint_weight and distill.soft_weight are 0: expected a student recipe"
        )


@contextmanager
def begun(
    out: Path, recipe: Recipe, store: Store, fabric: Fabric, *, seed: int, teacher: Path | None, init: str | None
) -> Iterator[RunLog]:
    """The run folder `out`, opened for this training or found so, in each of the processes that train together.

    Other trainers are kept out of it meanwhile; where the training cannot begin, it is not made.
    init: weights to start from; "none": random ones by seed; None: those of the teacher, if there is one.
    Raises UsageError where the device, the store or what `out` holds does not fit, and OutputError.
    """
    origin = {"teacher": _resolved(teacher), "init": init if init == "none" else _resolved(init or teacher)}
    if teacher is not None:
        origin["teacher_checksum"] = weights_checksum(_open_teacher(teacher, store)["model"])
    num_videos = len(split_rows(store, recipe.data.split)["train"])
    check_training(recipe, store.settings.gop_size, fabric.device)
    check_shares(num_videos, recipe.data.batch_size, recipe.optim.accumulate, fabric.world_size)
    with claimed(out) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            begin_run(out, recipe, store, seed, origin)
        fabric.barrier()  # the others find what the first has written
        yield open_run(out)


def is_trained(run: RunLog) -> bool:
    """Whether `run` has come to its end."""
    if not (run.folder / CHECKPOINT).exists():
        return False
    done = Progress(**load_checkpoint(run.folder)["progress"]).epoch
    return is_over(run.recipe.optim, done, [found for found in run.read_validations() if found.epoch <= done])


def train(run: RunLog, store: Store, fabric: Fabric, *, wandb: bool = False) -> Progress:
    """Begin or resume `run` and bring it to its last epoch. Raises PreemptedError after SIGTERM."""
    fabric.seed_everything(int(run.facts["seed"]), verbose=False)
    recipe = run.recipe
    network = build_model(recipe, len(store.classes))
    state, progress = None, Progress()
    if (run.folder / CHECKPOINT).exists():
        state = load_checkpoint(run.folder)
        load_weights(network, state["model"], str(run.folder))
        progress = Progress(**state["progress"])
        say(f"resuming {run.folder} at epoch {progress.epoch} of {recipe.optim.epochs}, step {progress.step}")
    else:
        _initialise(network, run)
    teacher = _load_teacher(run, fabric) if recipe.distill.needs_teacher else None
    average = build_average(recipe.optim, network, fabric, progress.step)
    if average is not None:
        say(f"validation and checkpoints use the moving average of weights (ema_decay {recipe.optim.ema_decay})")
        load_weights(network, state[UNAVERAGED] if state else network.state_dict(), str(run.folder))
    model, optimizer = setup(fabric, network, build_optimizer(recipe.optim, network), recipe.optim)
    if state:
        optimizer.load_state_dict(state["optimizer"])  # after setup: momentum goes where the weights are
        fabric.strategy.precision.load_state_dict(state.get("precision", {}))
    watchers = _open_watchers(run, progress, wandb=wandb) if fabric.is_global_zero else []
    with sigterm_as_wish() as stop:
        trainer = Trainer(fabric, store, run, network, model, optimizer, average, teacher, watchers, stop)
        try:
            return trainer.fit(progress)
        finally:
            for watcher in watchers:
                watcher.try_close()


def _load_teacher(run: RunLog, fabric: Fabric) -> MFNet3D:
    return cast("MFNet3D", load_model(open_run(Path(run.facts["teacher"])), fabric))  # as `_open_teacher` has seen


def _open_watchers(run: RunLog, progress: Progress, *, wandb: bool) -> list[Watcher]:
    if progress.epoch >= run.recipe.optim.epochs:
        return []
    tensorboard = [open_tensorboard(run, progress.step)] if run.recipe.run.tensorboard else []
    return tensorboard + ([open_wandb(run)] if wandb else [])


def _initialise(model: nn.Module, run: RunLog) -> None:
    init = run.facts["init"]
    if init is None or init == "none":
        say("starting from random weights")
        return
    say(f"starting from the weights of {load_pretrained(model, read_pretrained(Path(init)), run.classes)}")


def _open_teacher(folder: Path, store: Store) -> dict[str, Any]:
    """The checkpoint of a teacher for `store`. Raises UsageError where it knows other classes or saw other clips."""
    run = open_run(folder)
    if run.classes != list(store.classes):
        raise UsageError(
            f"teacher {folder} knows {len(run.classes)} classes ({_first_names(run.classes)}), the store has "
            f"{len(store.classes)} ({_first_names(store.classes)}): expected the same; train a teacher on this store"
        )
    if run.recipe.data.clip_format != TEACHER_FORMAT:
        raise UsageError(f"teacher {folder} was trained on {run.recipe.data.clip_format} clips, expected rgb")
    if run.recipe.model.network != MFNET3D:
        raise UsageError(f"teacher {folder} is a {run.recipe.model.network}, expected {MFNET3D}, as its student is")
    return load_checkpoint(folder)


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


main = main_of(cli)

if __name__ == "__main__":
    main()
