"""`mfcd-bench extract`: from encoded files to shards on disk, beside decoders alone and plain NumPy."""

from __future__ import annotations

import importlib
import tempfile
from collections import deque
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
import numpy as np
from rich import box
from rich.table import Table

from mfcd_core.bench import BenchResult, Figure, interleave, median_run, repeats_option, report, run_here
from mfcd_core.console import show
from mfcd_core.errors import VideoError
from mfcd_core.gop import Gop, signed_motion
from mfcd_core.machine import describe_machine
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store.compression import AUTO
from mfcd_prep.audit import audit_gop, iter_pictures
from mfcd_prep.extract import ExtractOptions, plan_extract
from mfcd_prep.extract_steps import decode_alone, time_steps
from mfcd_prep.gops import GopTracer, iter_gops
from mfcd_prep.options import json_option
from mfcd_prep.shards import ShardWorker
from mfcd_prep.versions import library_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mfcd_core.bench import Run
    from mfcd_core.store.settings import StoreSettings
    from mfcd_prep.extract import ExtractPlan
    from mfcd_prep.shards import ShardRecord

PACKAGES = ("mfcd", "av", "motion-vector-extractor", "numba", "numpy", "zstandard")
OURS, SMALLEST, FASTEST, STEPS = "mfcd", "mfcd, level auto", "mfcd, fastest level", "steps"
DECODE, EXTRACTOR, NUMPY = "PyAV decoding", "mv-extractor", "plain NumPy"
FASTEST_LEVEL = -5
OF_DECODE, OF_DECODE_FASTEST = 0.12, 0.2  # the targets: shares of the bare decoder's speed
NUMPY_GOPS = 3  # it takes so long that the first GOPs must do


@click.command(name="extract")
@click.argument("encoded", type=click.Path(exists=True, file_okay=False, path_type=Path))
@repeats_option
@json_option
def extract_bench(encoded: Path, *, repeats: int, as_json: bool) -> int:
    """Extract ENCODED: frames a second of CPU, and where each microsecond of a GOP goes.

    ENCODED is a folder that `mfcd-prep encode` wrote. Ours is all that `mfcd-prep extract` does for a shard, in this
    process: hashing and decoding the files, tracing, residuals, compression, the shard on disk, its checksum; with the
    default settings, at level auto, and at the fastest level. The peers do less: PyAV decodes the same files and
    nothing else, mv-extractor gives vectors and BGR pictures, and plain NumPy traces and subtracts the first GOPs but
    stores nothing.

    Shards go to the folder for temporary files (TMPDIR) and are removed.
    """
    result, steps = bench_extract(encoded.resolve(), repeats)
    show(steps_table(steps))
    return report(result, as_json=as_json)


def bench_extract(encoded: Path, repeats: int) -> tuple[BenchResult, dict[str, float]]:
    """Measure; see `extract_bench`. Returns the result, and microseconds a GOP by step."""
    with tempfile.TemporaryDirectory(prefix="mfcd-bench-") as name:
        bench = ExtractBench(plan_extract(encoded, Path(name, "none"), ExtractOptions()), encoded, Path(name))
        bench.warm_up()
        runs = interleave(bench.contenders(), repeats)
        num_bytes = bench.num_bytes
    num_gops = sum(task.num_gops for task in bench.plan.tasks)
    frames = dict.fromkeys(runs, num_gops * bench.settings.gop_size)
    frames[NUMPY] = bench.num_numpy_frames
    speeds = {name: frames[name] / median_run(taken).cpu_seconds for name, taken in runs.items() if name != STEPS}
    facts: dict[str, int | float | str] = {"videos": len(bench.paths), "gops": num_gops, "repeats": repeats}
    facts |= {
        f"kb_a_gop{end}": num_bytes[name] / num_gops / 1000
        for name, end in ((OURS, ""), (SMALLEST, "_auto"), (FASTEST, "_fastest"))
    }
    steps = {name: 1e6 * median(taken[name] for taken in bench.steps) / num_gops for name in bench.steps[0]}
    steps["the rest"] = 1e6 * median_run(runs[OURS]).cpu_seconds / num_gops - sum(steps.values())
    facts |= {f"{name.replace(' ', '_')}_us_a_gop": value for name, value in steps.items()}
    return summarize(speeds, facts, runs), steps


class ExtractBench:
    """The contenders, all on the files of one plan; ours writes into `scratch`.

    steps: CPU seconds by step, one a run. num_bytes: of our shards, by contender.
    """

    def __init__(self, plan: ExtractPlan, encoded: Path, scratch: Path) -> None:
        self.plan, self.settings, self.scratch = plan, plan.settings, scratch
        self.encoded = encoded
        self.paths = [encoded / video.path for task in plan.tasks for video in task.videos]
        self.steps: list[dict[str, float]] = []
        self.num_bytes: dict[str, int] = {}
        self._gops = read_gops(self.paths[0], self.settings, NUMPY_GOPS)

    @property
    def num_numpy_frames(self) -> int:
        """What plain NumPy is given."""
        return len(self._gops) * self.settings.gop_size

    def contenders(self) -> dict[str, Callable[[], Run]]:
        """By name, in order."""
        smallest, fastest = (replace(self.settings, level=level) for level in (AUTO, FASTEST_LEVEL))
        contenders = {
            OURS: lambda: self._extract(OURS, self.settings),
            DECODE: lambda: run_here(lambda: decode_alone(self.paths)),
            SMALLEST: lambda: self._extract(SMALLEST, smallest),
            FASTEST: lambda: self._extract(FASTEST, fastest),
            EXTRACTOR: lambda: run_here(lambda: read_with_mv_extractor(self.paths)),
            NUMPY: lambda: run_here(self._trace_plainly),
            STEPS: lambda: run_here(self._take_steps),
        }
        if find_spec("mvextractor") is None:
            del contenders[EXTRACTOR]
        return contenders

    def warm_up(self) -> None:
        """Compile the kernels and read every file once."""
        for path in self.paths:
            path.read_bytes()
        list(iter_gops(self.paths[0], self.settings, GopTracer(self.settings)))

    def _extract(self, name: str, settings: StoreSettings) -> Run:
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            worker = ShardWorker(self.encoded, Path(folder), Path(folder), settings, library_versions(settings.decoder))
            records: list[ShardRecord] = []
            run = run_here(lambda: records.extend(map(worker, self.plan.tasks)))
        if failures := [failure for record in records for failure in record.failures]:
            raise VideoError(f"{failures[0].path}: {failures[0].reason}")
        self.num_bytes[name] = sum(record.file.bytes for record in records if record.file)
        return run

    def _trace_plainly(self) -> None:
        pictures = iter_pictures(self.paths[0], self.settings.pixel_format)
        for gop in self._gops:
            its_pictures = list(islice(pictures, self.settings.gop_size))
            deque(audit_gop(gop, its_pictures, self.settings.trace, self.settings.residual_step), maxlen=0)

    def _take_steps(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            self.steps.append(time_steps(self.paths, self.settings, Path(folder)))


def read_with_mv_extractor(paths: Iterable[Path]) -> int:
    """Vectors and BGR pictures of every frame; returns their number."""
    capture = importlib.import_module("mvextractor.videocap").VideoCap()
    num_frames = 0
    for path in paths:
        capture.open(str(path))
        while capture.read()[0]:
            num_frames += 1
        capture.release()
    return num_frames


def read_gops(path: Path, settings: StoreSettings, num_gops: int) -> list[Gop]:
    """The first GOPs of a file, as `audit_gop` takes them."""
    names = [plane.name for plane in PIXEL_FORMATS[settings.pixel_format]]
    tracer = GopTracer(settings)
    gops = []
    for real_frames in islice(iter_gops(path, settings, tracer), num_gops):
        arrays = {name: array.astype(np.int16) for name, array in tracer.arrays.items()}
        iframe = {name: tracer.arrays[f"iframe/{name}"].copy() for name in names}
        residual = {name: arrays[f"residual/{name}"] * np.int16(settings.residual_step) for name in names}
        motion = signed_motion(tracer.arrays["motion"].copy())
        gops.append(Gop(iframe, residual, motion, real_frames, settings.pixel_format))
    return gops


def summarize(
    speeds: Mapping[str, float], facts: Mapping[str, int | float | str], runs: Mapping[str, Sequence[Run]]
) -> BenchResult:
    """Figures from frames a second of CPU by contender; the limits are shares of the bare decoder's speed."""
    peers = {name: speeds.get(name) for name in (DECODE, EXTRACTOR, NUMPY)}
    figures = [
        Figure(title, "frames/s/core", speeds[name], peers, limits)
        for title, name, limits in (
            ("extract", OURS, {DECODE: OF_DECODE}),
            ("extract, level auto", SMALLEST, {}),
            (f"extract, zstd level {FASTEST_LEVEL}", FASTEST, {DECODE: OF_DECODE_FASTEST}),
        )
    ]
    return BenchResult(figures[0], tuple(figures[1:]), facts, runs, describe_machine(PACKAGES))


def steps_table(steps: Mapping[str, float]) -> Table:
    """One line a step: microseconds a GOP, and its share."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    total = sum(steps.values())
    table.add_column("step", footer="all")
    table.add_column("us/GOP", footer=f"{total:.0f}", justify="right")
    table.add_column("share", footer="100 %", justify="right")
    for name, value in steps.items():
        table.add_row(name, f"{value:.0f}", f"{100 * value / total:.1f} %")
    return table
