"""`mfcd-bench train`: a training step as mfcd-train takes it, beside the plain form of the same network."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch

from mfcd_core.bench import BenchResult, Figure, interleave, median_run, repeats_option, report, run_here
from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.errors import UsageError
from mfcd_core.machine import describe_machine
from mfcd_core.store import Store
from mfcd_train.assemble import build_assembler
from mfcd_train.build import build_model, build_optimizer
from mfcd_train.dataset import training_draws
from mfcd_train.loader import iter_batches
from mfcd_train.losses import cross_entropy
from mfcd_train.pace import timed
from mfcd_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from mfcd_core.bench import Run
    from mfcd_train.config import Recipe
    from mfcd_train.loader import Batch

PACKAGES = ("mfcd", "torch", "lightning-fabric", "numpy")
NUM_CLASSES = 101
OURS, EAGER, COMPILED, FED = "mfcd", "eager fp32, NCDHW", "mfcd, torch.compile", "mfcd, fed from STORE"
LIMITS = {EAGER: 1.9}  # the target on a CPU, as a ratio ours / peer
PROC_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Form:
    """How a step is computed: order of memory, arithmetic, and whether torch.compile makes code of it."""

    channels_last: bool
    bf16: bool
    compiled: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """As torch names it."""
        return torch.channels_last_3d if self.channels_last else torch.contiguous_format


FORMS = {
    OURS: Form(channels_last=True, bf16=True),
    EAGER: Form(channels_last=False, bf16=False),
    "fp32, channels_last_3d": Form(channels_last=True, bf16=False),
    "bf16, NCDHW": Form(channels_last=False, bf16=True),
}


@click.command()
@click.argument(
    "path", metavar="[STORE]", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--recipe", default="teacher", help="Recipe of the network and its clips.")
@click.option("--crop", type=click.IntRange(min=16), default=112, help="Side of the clips, pixels.")
@click.option("--batch-size", type=click.IntRange(min=1), default=2, help="Clips a step; 32 and more for a GPU.")
@click.option("--steps", type=click.IntRange(min=1), default=2, help="Steps a run.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads of torch on a CPU.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where the network runs.")
@click.option("--compile", "with_compile", is_flag=True, help="Measure torch.compile, too; needs a C++ compiler.")
@repeats_option
@click.option("--json", "as_json", is_flag=True, help="One machine-readable summary on stdout.")
def train(  # noqa: PLR0913 - one parameter an option
    path: Path | None,
    *,
    recipe: str,
    crop: int,
    batch_size: int,
    steps: int,
    threads: int,
    device: str,
    with_compile: bool,
    repeats: int,
    as_json: bool,
) -> int:
    """Take training steps (forward, backward, SGD): clips a second, ours and plain forms of the same network.

    Ours is bf16 autocast in channels_last_3d; the first peer is the network as it was published, eager float32 in
    NCDHW. All take steps on the same noise. With STORE, a further figure has our loader and assembly feed ours, and
    says which share of the time was spent waiting for data. Speed is by CPU time on a CPU, by the clock on a GPU.
    Memory is what a process with one such network needs for a step, beyond what it held before, weights included.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no GPU is found; expected --device cpu")
    torch.set_num_threads(threads)
    store = None if path is None else Store(path)
    asked = load_recipe(recipe, [f"data.crop_size={crop}", f"data.batch_size={batch_size}"])
    forms = FORMS | ({COMPILED: Form(channels_last=True, bf16=True, compiled=True)} if with_compile else {})
    return report(bench_train(asked, forms, store, torch.device(device), steps, repeats), as_json=as_json)


def bench_train(
    recipe: Recipe, forms: Mapping[str, Form], store: Store | None, device: torch.device, steps: int, repeats: int
) -> BenchResult:
    """Measure; see `train`."""
    frames = store.settings.gop_size if store else 12
    peaks = {name: peak_mb(recipe, form, frames, device) for name, form in forms.items()}
    steppers = {name: Stepper(recipe, form, device) for name, form in forms.items()}
    batches = [noise(recipe, frames, device)] * steps
    work: dict[str, Callable[[], object]] = {name: partial(stepper.take, batches) for name, stepper in steppers.items()}
    feed = Feed(store, recipe, device, steps) if store else None
    if feed:
        work[FED] = lambda: steppers[OURS].take(feed.clips())
    runs = interleave({name: partial(run_here, one) for name, one in work.items()}, repeats + 1)
    runs = {name: taken[1:] for name, taken in runs.items()}  # the first one warms up
    facts: dict[str, int | float | str] = {
        "network": f"width {recipe.model.width:g}, depth {list(recipe.model.depth)}",
        "clip": f"{frames}x{recipe.data.crop_size}x{recipe.data.crop_size}",
        "batch_size": recipe.data.batch_size,
        "steps": steps,
        "repeats": repeats,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "runs_of_ours_with_gradients_that_are_no_numbers": steppers[OURS].num_broken,
    }
    if feed:
        facts["share_of_time_waiting_for_data"] = sum(feed.waits[1:]) / sum(run.wall_seconds for run in runs[FED])
    return summarize(runs, peaks, facts)


@dataclass
class Stepper:
    """A network of one form and its optimizer. num_broken: runs after which gradients were not finite."""

    recipe: Recipe
    form: Form
    device: torch.device
    num_broken: int = 0

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        network = build_model(self.recipe, NUM_CLASSES).to(self.device)
        self._network = network.to(memory_format=self.form.memory_format)  # type: ignore[call-overload]
        self._optimizer = build_optimizer(self.recipe.optim, self._network)
        self._forward = torch.compile(self._network) if self.form.compiled else self._network

    def take(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """One step a batch of clips (N, C, T, H, W) and labels (N,)."""
        for clips, labels in batches:
            laid = clips.contiguous(memory_format=self.form.memory_format)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.form.bf16):
                logits = self._forward(laid)
            self._optimizer.zero_grad(set_to_none=True)
            cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        self.num_broken += not all(bool(gradient.isfinite().all()) for gradient in gradients)  # waits for a GPU, too


@dataclass
class Feed:
    """Clips of a store as mfcd-train feeds them. waits: to which the seconds of waiting of each run are added."""

    store: Store
    recipe: Recipe
    device: torch.device
    steps: int
    waits: list[float] = field(default_factory=list)

    def clips(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Clips and labels, `steps` batches."""
        name = self.recipe.data.clip_format
        assemble = build_assembler(self.store.settings, self.recipe.data)
        self.waits.append(0.0)
        for batch, waited_seconds in timed(itertools.islice(self._batches(), self.steps)):
            self.waits[-1] += waited_seconds
            moved = batch.to(self.device)
            yield assemble(moved, [name])[name], moved.labels.clamp(0, NUM_CLASSES - 1)

    def _batches(self) -> Iterator[Batch]:
        size, clip_format = self.recipe.data.batch_size, CLIP_FORMATS[self.recipe.data.clip_format]
        needs_motion, needs_residual = clip_format.needs_motion, clip_format.needs_residual
        rows = torch.arange(len(self.store.videos)).numpy()
        for epoch in itertools.count():
            draws = training_draws(self.store, rows, 0, epoch, self.recipe.data.flip)
            whole = draws[: max(len(draws) // size, 1) * size]
            yield from iter_batches(
                self.store, whole, size, with_motion=needs_motion, with_residual=needs_residual, num_threads=1
            )


def noise(recipe: Recipe, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch of clips and labels that say nothing."""
    data = recipe.data
    channels = CLIP_FORMATS[data.clip_format].num_channels
    clips = torch.randn(data.batch_size, channels, frames, data.crop_size, data.crop_size, device=device)
    return clips, torch.arange(data.batch_size, device=device) % NUM_CLASSES


def peak_mb(recipe: Recipe, form: Form, frames: int, device: torch.device) -> float | None:
    """MB (1e6 bytes) that two steps need at most, in a process of their own; None where no one counts."""
    if device.type == "cpu" and not PROC_STATUS.exists():
        return None
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_peak_here, recipe, form, frames, device, torch.get_num_threads()).result()


def _peak_here(recipe: Recipe, form: Form, frames: int, device: torch.device, threads: int) -> float:
    torch.set_num_threads(threads)
    before = _resident_mb("VmRSS")
    Stepper(recipe, form, device).take(itertools.repeat(noise(recipe, frames, device), 2))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return _resident_mb("VmHWM") - before


def _resident_mb(name: str) -> float:
    """A line of this process's own count, which is in KiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", PROC_STATUS.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def summarize(
    runs: Mapping[str, Sequence[Run]], peaks: Mapping[str, float | None], facts: Mapping[str, int | float | str]
) -> BenchResult:
    """Figures of the medians; `facts` has at least `steps`, `batch_size` and `device`."""
    on_cpu, num_clips = facts["device"] == "cpu", int(facts["steps"]) * int(facts["batch_size"])
    took = {name: median_run(taken) for name, taken in runs.items()}
    seconds = {name: run.cpu_seconds if on_cpu else run.wall_seconds for name, run in took.items()}
    speed: dict[str, float | None] = {name: num_clips / value for name, value in seconds.items()}
    ours, fed = speed.pop(OURS) or 0.0, speed.pop(FED, None)
    unit = "clips/s/core" if on_cpu else "clips/s"
    headline = Figure("training step", unit, ours, speed, LIMITS if on_cpu else {})
    more = []
    if fed is not None:
        more.append(Figure("training step, fed", unit, fed, {"with noise": ours}))
    memory, others = peaks[OURS], {name: peak for name, peak in peaks.items() if name != OURS}
    if memory is not None:
        more.append(Figure("peak memory of a step", "MB", memory, others, lower_is_better=True))
    return BenchResult(headline, tuple(more), facts, runs, describe_machine(PACKAGES))
