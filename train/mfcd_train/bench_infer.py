"""`mfcd-bench infer`: the network of a run as PyTorch runs it, beside each of its exports."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from mfcd_core.bench import BenchResult, Figure, interleave, median_run, repeats_option, report, run_here
from mfcd_core.machine import describe_machine
from mfcd_train.export import check_clips, describe, export, read_network
from mfcd_train.exporters import EXPORT_FORMATS
from mfcd_train.runlog import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_train.models import Network
    from mfcd_train.runlog import RunLog

PACKAGES = ("mfcd", "torch", "onnxruntime", "openvino")
OURS, PLAIN, BF16 = "mfcd", "PyTorch, float32, NCDHW", "PyTorch, bf16, channels_last_3d"


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--batch-size", type=click.IntRange(min=1), default=1, help="Clips at once.")
@click.option("--passes", type=click.IntRange(min=1), default=4, help="Batches a round.")
@repeats_option
@click.option("--json", "as_json", is_flag=True, help="One machine-readable summary on stdout.")
def infer(run: Path, *, batch_size: int, passes: int, repeats: int, as_json: bool) -> int:
    """Logits of clips by the network of RUN on one thread: as mfcd-eval computes them, and by each of its exports.

    Ours is PyTorch in float32 and channels_last_3d. Exports are made into the folder for temporary files (TMPDIR),
    checked and removed; those whose packages are not installed are left out. All compute the same clips in float32, but
    for the one that says bf16.
    """
    torch.set_num_threads(1)
    return report(bench_infer(open_run(run), batch_size, passes, repeats), as_json=as_json)


def bench_infer(log: RunLog, batch_size: int, passes: int, repeats: int) -> BenchResult:
    """Measure; see `infer`."""
    found, _ = check_clips(log, None)
    clips = found[torch.arange(batch_size) % len(found)].contiguous(memory_format=torch.channels_last_3d)
    runs: dict[str, Callable[[], object]] = _of_pytorch(log, clips)
    with tempfile.TemporaryDirectory(prefix="mfcd-bench-") as folder:
        runs |= _of_exports(log, Path(folder), found, clips.contiguous().numpy())
        contenders = {name: partial(run_here, partial(_repeat, work, passes)) for name, work in runs.items()}
        taken = {name: rounds[1:] for name, rounds in interleave(contenders, repeats + 1).items()}  # one to warm up
    speed = {name: passes * batch_size / median_run(rounds).cpu_seconds for name, rounds in taken.items()}
    peers: dict[str, float | None] = {name: speed.get(name) for name in (PLAIN, BF16, *EXPORT_FORMATS)}
    facts: dict[str, int | float | str] = {
        "clips at once": batch_size,
        "clip": "x".join(map(str, clips.shape[1:])),
        "repeats": repeats,
    }
    headline = Figure("infer", "clips/s/core", speed[OURS], peers)
    return BenchResult(headline, (), facts, taken, describe_machine(PACKAGES))


def _repeat(work: Callable[[], object], passes: int) -> None:
    for _ in range(passes):
        work()


def _of_pytorch(log: RunLog, clips: Tensor) -> dict[str, Callable[[], object]]:
    network, plain = read_network(log), read_network(log)
    plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # missing in torch's own types
    return {
        OURS: partial(_logits, network, clips),
        PLAIN: partial(_logits, plain, clips.contiguous()),
        BF16: partial(_logits, network, clips, bf16=True),
    }


@torch.no_grad()
def _logits(network: Network, clips: Tensor, *, bf16: bool = False) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits: Tensor = network(clips)
    return logits


def _of_exports(log: RunLog, folder: Path, checked: Tensor, clips: NDArray[Any]) -> dict[str, Callable[[], object]]:
    """What runs each export that its packages are there for."""
    network, facts = read_network(log), describe(log)
    runs: dict[str, Callable[[], object]] = {}
    for kind, export_format in EXPORT_FORMATS.items():
        if not export_format.missing:
            path = folder / f"network{export_format.extension}"
            export(network, facts, export_format, path, checked)
            run, _ = export_format.load(path, 1)
            runs[kind] = partial(run, clips)
    return runs
