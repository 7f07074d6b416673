"""`mfcd-eval cost`: the paper's Table 1 by counting, and the time that a clip and a video take here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import print_json, show, warn
from mfcd_core.errors import UsageError
from mfcd_core.machine import cpu_model, describe_machine
from mfcd_core.store import Store
from mfcd_core.store.settings import MAX_GOP_SIZE, StoreSettings
from mfcd_train.backbones import MISSING, has_backbones
from mfcd_train.build import build_fabric, build_model, load_model
from mfcd_train.config import MFNET3D, DataRecipe, Recipe
from mfcd_train.cost import ClipNetwork, clip_network_cost, describe_stages, peer_costs
from mfcd_train.cost_tables import cost_table, latency_table
from mfcd_train.latency import Subject, add_up, measure_latency, shares
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mfcd_core.bench import Run
    from mfcd_train.cost import SystemCost
    from mfcd_train.runlog import RunLog

PATH = click.Path(path_type=Path)
PACKAGES = ("mfcd", "torch", "transformers")
CROP_OF_FRAME = 256 / 224  # side of a frame beside that of its crop (section 4)


def _parse_size(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """A side, or WxH, as (width, height)."""
    if text is None:
        return None
    width, by, height = text.lower().partition("x")
    sides = (width, height if by else width)
    if not all(side.isdecimal() and 16 <= int(side) <= 4096 for side in sides):
        raise click.BadParameter(f"{text!r}: expected a side or width x height, 16 to 4096 pixels, as 224 or 320x240")
    return int(sides[0]), int(sides[1])


@click.command("cost", context_settings={"show_default": True})
@click.argument("run", type=PATH, required=False)
@click.argument("store", type=PATH, required=False)
@click.option("--frames", type=click.IntRange(2, MAX_GOP_SIZE), help="Frames a clip.  [default: 12]")
@click.option("--size", callback=_parse_size, help="Side of the clip in pixels, or WxH.  [default: 224]")
@click.option("--classes", type=click.IntRange(min=1), help="Classes.  [default: 400]")
@click.option("--clips", type=click.IntRange(min=1), default=15, help="Clips a video.")
@click.option("--repeats", type=click.IntRange(min=0), default=3, help="Rounds of timing; 0: counts alone.")
@click.option("--threads", type=click.IntRange(min=1), help="Torch threads on a CPU.  [default: the recipe's]")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print the result on stdout.")
def cost(  # noqa: PLR0913 - one argument an option
    run: Path | None,
    store: Path | None,
    *,
    frames: int | None,
    size: tuple[int, int] | None,
    classes: int | None,
    clips: int,
    repeats: int,
    threads: int | None,
    device: str,
    as_json: bool,
) -> int:
    """Parameters, operations, bytes and time of a video, beside CoViAR, DMC-Net and TTP, and the paper's own figures.

    Counted from the layers of each network. MACs are products with their additions; `MACs, BN, ReLU` is the paper's
    counter: 5 operations more for every element that passes both. Without RUN: the paper's network on random planes.
    With RUN: its network. With RUN and STORE: also the bytes of its clips and the time to read them.
    """
    if run and (frames or size or classes):
        raise UsageError(f"--frames, --size and --classes beside {run}: expected one or the other, a run has its own")
    if run:
        case = _case_of_run(_open_clip_network(run), Store(store) if store else None, clips)
    else:
        case = _case_of_options(frames or 12, size or (224, 224), classes or 400, clips)
    systems = case.systems()
    runs = case.measure(device, threads, clips, repeats) if repeats else {}
    show(cost_table(systems))
    if runs:
        show(latency_table(runs, f"{case.fed}; {torch.get_num_threads()} threads of {cpu_model()}"))
    if as_json:
        print_json(_result(case, systems, runs))
    return 0


@dataclass(frozen=True)
class Case:
    """What is counted and timed. settings: of the planes that make a clip; None: none do. log, store: where given."""

    network: ClipNetwork
    settings: StoreSettings | None
    log: RunLog | None = None
    store: Store | None = None

    @property
    def fed(self) -> str:
        """What the timed network sees, in words."""
        if self.store:
            return f"{self.network.recipe.data.clip_format} clips of {self.store.path}, warm"
        return "random planes" if self.settings else "random clips"

    def systems(self) -> list[SystemCost]:
        """MFCD-Net first, then its peers, where what builds them is installed."""
        own = clip_network_cost(self.network, self._stored_bytes())
        if has_backbones():
            return [own, *peer_costs()]
        warn(f"CoViAR, DMC-Net and TTP are left out: {MISSING}")
        return [own]

    def measure(self, device: str, threads: int | None, clips: int, repeats: int) -> dict[str, dict[str, Run]]:
        """Time of the network on the device, with the run's weights or random ones."""
        recipe = self.network.recipe
        if threads:
            recipe = replace(recipe, run=replace(recipe.run, num_threads=threads))
        fabric = build_fabric(recipe, device)
        if self.log:
            model = load_model(self.log, fabric)
        else:
            model = build_model(recipe, self.network.num_classes).to(fabric.device).eval()
        subject = Subject(recipe, model, fabric.device, self.network.input_shape, self.settings, self.store)
        with fabric.autocast():
            return measure_latency(subject, clips, repeats)

    def _stored_bytes(self) -> float | None:
        """Mean bytes that are read for a clip: of its chunks up to the last one that it needs."""
        if not self.store:
            return None
        clip_format = CLIP_FORMATS[self.network.recipe.data.clip_format]
        needed = {"iframe": True, "residual": clip_format.needs_residual, "motion": clip_format.needs_motion}
        last = max(i for i, array in enumerate(self.store.settings.stored_arrays()) if needed[array.kind])
        return float(self.store.places["sizes"][:, : last + 1].sum(1).mean())


def _open_clip_network(run: Path) -> RunLog:
    log = open_run(run)
    if log.recipe.model.network != MFNET3D:
        raise UsageError(f"{run} is a {log.recipe.model.network}: expected {MFNET3D}; CoViAR's costs need no RUN")
    return log


def _case_of_run(log: RunLog, store: Store | None, clips: int) -> Case:
    settings = store.settings if store else StoreSettings.from_dict(log.facts["store_settings"])
    side = log.recipe.data.crop_size
    return Case(ClipNetwork(log.recipe, settings.gop_size, side, side, len(log.classes), clips), settings, log, store)


def _case_of_options(frames: int, size: tuple[int, int], classes: int, clips: int) -> Case:
    """The paper's network; clips that are squares are cropped from planes larger by 256 / 224, as the paper's."""
    width, height = size
    if width != height:
        return Case(ClipNetwork(Recipe(), frames, height, width, classes, clips), None)
    frame_size = 2 * math.ceil(width * CROP_OF_FRAME / 2)
    recipe = Recipe(data=DataRecipe(frame_size=frame_size, crop_size=width))
    return Case(
        ClipNetwork(recipe, frames, height, width, classes, clips), StoreSettings(frame_size, frame_size, frames)
    )


def _result(case: Case, systems: Sequence[SystemCost], runs: Mapping[str, Mapping[str, Run]]) -> dict[str, Any]:
    return {
        "systems": {system.name: system.to_dict() for system in systems},
        "stages": describe_stages(case.network),
        "latency": {
            unit: {
                **asdict(add_up(by_stage)),
                "stages": {stage: asdict(run) for stage, run in by_stage.items()},
                "shares": shares(by_stage),
            }
            for unit, by_stage in runs.items()
        },
        "fed": case.fed,
        "machine": describe_machine(PACKAGES) | {"torch_threads": torch.get_num_threads()},
    }
