"""`mfcd-export`: the network of a run as a file for other runtimes, checked before it is in place."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch

from mfcd_core.atomic import publish
from mfcd_core.clip import CLIP_FORMATS, MOTION_SCALE, RGB_MEAN, RGB_SCALE
from mfcd_core.console import main_of, print_json, say
from mfcd_core.errors import MfcdError, UsageError
from mfcd_core.gop import Gop
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store import Store
from mfcd_train.build import build_model
from mfcd_train.checkpoint import load_checkpoint, load_weights
from mfcd_train.exporters import EXPORT_FORMATS, INPUT, OUTPUT, trace_network
from mfcd_train.predictor import iter_clips
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mfcd_core.store.settings import StoreSettings
    from mfcd_train.exporters import ExportFormat
    from mfcd_train.models import Network
    from mfcd_train.runlog import RunLog

NUM_CLIPS = 3
TOLERANCE = 1e-3  # of the largest logit: summing in another order gives about 1e-6
CPU = torch.device("cpu")


class ExportError(MfcdError):
    """The exported file does not compute what the network does."""


@dataclass(frozen=True)
class Check:
    """Clips that an export was tried on, the largest difference of a logit to the network's, the largest of those."""

    num_clips: int
    max_difference: float
    max_logit: float


@click.command("mfcd-export", context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "kind", required=True, type=click.Choice(list(EXPORT_FORMATS)), help="What to write.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option("--store", type=click.Path(path_type=Path), help="Check on clips of this store, not on random ones.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary on stdout.")
def cli(run: Path, *, kind: str, out: Path, store: Path | None, as_json: bool) -> int:
    """Write the network of RUN for other runtimes: ONNX, OpenVINO (FILE.xml and FILE.bin) or torch.export.

    It takes any number of clips. The file is run and compared with the network before it is put into place; labels,
    normalisation and clip format are in its metadata.
    """
    export_format = EXPORT_FORMATS[kind]
    if export_format.missing:
        raise UsageError(f"--format {kind} needs {', '.join(export_format.missing)}: pip install 'mfcd[export]'")
    if out.suffix != export_format.extension:
        raise UsageError(f"--out {out}: expected a name that ends in {export_format.extension} for --format {kind}")
    log = open_run(run)
    network, facts = read_network(log), describe(log)
    clips, origin = check_clips(log, None if store is None else Store(store))
    check = export(network, facts, export_format, out, clips)
    compared = f"{check.num_clips} {origin}: logits up to {check.max_logit:.3g} differ by up to"
    say(f"{out}: checked on {compared} {check.max_difference:.1e}")
    if as_json:
        files = [str(path) for path in export_format.files(out)]
        print_json(
            {"run": str(run), "format": kind, "files": files, "check": {"clips": origin, **vars(check)}, "facts": facts}
        )
    return 0


def read_network(log: RunLog) -> Network:
    """The network of a run on the CPU in float32, in eval mode."""
    network = build_model(log.recipe, len(log.classes))
    load_weights(network, load_checkpoint(log.folder)["model"], str(log.folder))
    return network.requires_grad_(requires_grad=False).eval()


def describe(log: RunLog) -> dict[str, Any]:
    """What it takes to use the network without this package; by channel, it is fed (levels - mean) * scale."""
    data, settings = log.recipe.data, log.settings
    clip_format = CLIP_FORMATS[data.clip_format]
    is_motion = clip_format.source == "motion"
    length = data.num_frames or clip_format.num_slots(settings.gop_size)
    shape = [clip_format.num_channels, length, data.crop_size, data.crop_size]
    return {
        "labels": log.classes,
        "input": {"name": INPUT, "shape": ["batch", *shape], "axes": ["clip", "channel", "frame", "row", "column"]},
        "output": {"name": OUTPUT, "shape": ["batch", len(log.classes)]},
        "mean": [0.0, 0.0] if is_motion else list(RGB_MEAN),
        "scale": MOTION_SCALE if is_motion else RGB_SCALE,
        "clip_format": data.clip_format,
        "residual_offset": data.residual_offset,
        "num_frames": data.num_frames,
        "frame_size": data.frame_size,
        "crop_size": data.crop_size,
        "store_settings": settings.to_dict(),
        "mfcd_version": version("mfcd"),
    }


def check_clips(log: RunLog, store: Store | None) -> tuple[torch.Tensor, str]:
    """A few clips as the network is fed them, and in words what they are: a store's, or made of random planes."""
    if store is None:
        gops, settings, origin = random_gops(log.settings), log.settings, "clips of random planes (no --store)"
    else:
        rows = np.linspace(0, len(store.videos) - 1, NUM_CLIPS).round().astype(int).tolist()
        gops = [store.read_gop(store.videos.id(row), 0) for row in rows]
        settings, origin = store.settings, f"clips of {store.path}"
        if settings.gop_size != log.settings.gop_size:
            raise UsageError(f"{store.path} has GOPs of {settings.gop_size}, expected {log.settings.gop_size}")
    return torch.cat(list(iter_clips(gops, settings, log.recipe.data, CPU))), origin


def random_gops(settings: StoreSettings) -> list[Gop]:
    """Noise whose motion points anywhere in the picture."""
    random, num_frames = np.random.default_rng(0), settings.gop_size - 1
    size = (settings.height_px, settings.width_px)
    limit = 255 // settings.residual_step + 1
    gops = []
    for _ in range(NUM_CLIPS):
        shapes = {plane.name: plane.shape(*size) for plane in PIXEL_FORMATS[settings.pixel_format]}
        iframe = {name: random.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
        steps = {name: random.integers(1 - limit, limit, (num_frames, *shape)) for name, shape in shapes.items()}
        residual = {name: (values * settings.residual_step).astype(np.int16) for name, values in steps.items()}
        look_up = np.stack([random.integers(0, side, (num_frames, *size)) for side in size], axis=1)
        motion = (np.indices(size) - look_up).astype(np.int16)
        gops.append(Gop(iframe, residual, motion, settings.gop_size, settings.pixel_format))
    return gops


def export(
    network: Network, facts: dict[str, Any], export_format: ExportFormat, out: Path, clips: torch.Tensor
) -> Check:
    """Write a network in one format, check it, then put it in place. Raises ExportError; then nothing was written."""
    program = trace_network(network, clips)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mfcd-export-", dir=out.parent) as folder:
        part = Path(folder) / out.name
        export_format.write(program, json.dumps(facts), part)
        check = check_export(network, facts, export_format, part, clips)
        out.unlink(missing_ok=True)  # first: it must not stand beside a companion of another network
        for path in export_format.files(part):
            publish(path, out.with_name(path.name))
    return check


def check_export(
    network: Network, facts: dict[str, Any], export_format: ExportFormat, path: Path, clips: torch.Tensor
) -> Check:
    """Run a written file on all clips at once and on one alone. Raises ExportError where it is not the network."""
    run, stored = export_format.load(path, 0)
    if json.loads(stored) != facts:
        raise ExportError(f"{path.name} has other metadata than it was given: update the packages of mfcd[export]")
    with torch.no_grad():
        expected = network(clips).numpy()
    levels = clips.contiguous().numpy()
    difference = max(_difference(run(levels), expected), _difference(run(levels[:1]), expected[:1]))
    largest = float(np.abs(expected).max())
    if not difference <= TOLERANCE * max(largest, 1.0):
        raise ExportError(
            f"{path.name} computes other logits: off by {difference:.2g}, expected up to "
            f"{TOLERANCE * max(largest, 1.0):.2g}; nothing was written"
        )
    return Check(len(clips), difference, largest)


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


main = main_of(cli)
