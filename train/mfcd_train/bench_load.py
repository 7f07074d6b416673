"""`mfcd-bench load`: from a store to batches, beside HDF5, JPEG frames, decoding, and what the machine can do."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from matplotlib.figure import Figure as Plot

from mfcd_core.bench import BenchResult, Figure, interleave, median_run, repeats_option, report, run_here
from mfcd_core.errors import UsageError
from mfcd_core.machine import describe_machine
from mfcd_core.store import Store
from mfcd_core.store.packing import unpack
from mfcd_train.bench_load_peers import (
    BATCH_SIZE,
    Floor,
    arrays_of,
    read_gzip,
    read_jpegs,
    read_plain_hdf5,
    read_tar,
    write_gzip,
    write_jpegs,
)
from mfcd_train.dataset import Draws
from mfcd_train.loader import iter_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mfcd_core.bench import Run

DECODERS = "mfcd.bench.load"
PACKAGES = ("mfcd", "numpy", "zstandard", "torch", "h5py", "hdf5plugin", "pillow", "av", "torchcodec", "decord")
OURS, PLAIN_HDF5, ZSTD, COPY = "mfcd", "h5py + hdf5plugin", "zstd alone", "memcpy alone"
GZIP, JPEG, TAR = "h5py gzip", "JPEG frames", "tar of JPEG frames (tarfile)"
ON_THE_FLY = "PyAV, traced on the fly"  # as mfcd_prep names it
MOTION, UNPACKED = ", motion", ", digits undone on the CPU"
LIMITS = {PLAIN_HDF5: 1.4, JPEG: 4.0, ON_THE_FLY: 4.0}  # the targets, as ratios ours / peer
PASSES = 8  # of the quick ones over all clips, so that how they begin does not count
SCALING = 1.8  # of two threads over one


@click.command()
@click.argument("path", metavar="STORE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--encoded", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Files that STORE is of: decoders."
)
@click.option("--threads", type=click.IntRange(min=2), default=2, help="Our threads, beside one.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Only the first N videos, by id.")
@repeats_option
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="PNG file to draw the speeds into.")
@click.option("--json", "as_json", is_flag=True, help="One machine-readable summary on stdout.")
def load(
    path: Path, *, encoded: Path | None, threads: int, limit: int | None, repeats: int, plot: Path | None, as_json: bool
) -> int:
    """Load STORE: clips a second of CPU, beside other ways to read the same clips.

    Ours is the loader of mfcd-train with one thread: clips in random order, checked, in batches of 32, as they go to
    the device, which undoes the digits; a second figure has that done here as well. Peers read the same clips: plain
    h5py + hdf5plugin the same shards, h5py with gzip a copy in plain values, Pillow JPEG frames of quality 95 from
    files and from an archive, and, with --encoded, decoders the encoded files from beginning to end.

    zstd alone and memcpy alone are what the machine can do. The files are read once before anything is measured.
    Copies go to the folder for temporary files (TMPDIR) and are removed.
    """
    torch.set_num_threads(1)
    result = bench_load(Store(path), encoded, threads, limit, repeats)
    if plot is not None:
        draw(result, plot)
    return report(result, as_json=as_json)


def bench_load(store: Store, encoded: Path | None, threads: int, limit: int | None, repeats: int) -> BenchResult:
    """Measure; see `load`. Raises UsageError for videos without an encoded file."""
    num_videos = min(limit or len(store.videos), len(store.videos))
    num_clips = int(store.videos.num_gops[:num_videos].sum())
    with tempfile.TemporaryDirectory(prefix="mfcd-bench-") as name:
        bench = LoadBench(store, num_clips, threads)
        contenders: dict[str, Callable[[], object] | None] = {**bench.ours(), **bench.copies(Path(name))}
        contenders |= bench.floors()
        if encoded is not None:
            contenders |= find_decoders(store, encoded, num_videos)
        there = {who: partial(run_here, work) for who, work in contenders.items() if work is not None}
        runs = {who: taken[1:] for who, taken in interleave(there, repeats + 1).items()}  # the first one warms up
    facts: dict[str, int | float | str] = {"videos": num_videos, "clips": num_clips, "repeats": repeats}
    facts |= {"threads": threads, "passes": PASSES, **bench.sizes()}
    return summarize(runs, [who for who, work in contenders.items() if work is None], facts)


def find_decoders(store: Store, encoded: Path, num_videos: int) -> dict[str, Callable[[], object] | None]:
    """What installed packages declare, on the files of the first videos."""
    paths = [encoded / f"{video_id}.mp4" for video_id in store.videos.ids[:num_videos].tolist()]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UsageError(f"{missing[0]} is not there: expected --encoded to be the folder that {store.path} is of")
    found: dict[str, Callable[[], object] | None] = {}
    for entry in entry_points(group=DECODERS):
        found |= entry.load()(paths, store.settings)
    return found


@dataclass
class LoadBench:
    """The contenders that need no decoder, all on the first `num_clips` GOPs in one random order."""

    store: Store
    num_clips: int
    threads: int
    jpeg_bytes: int = 0

    def __post_init__(self) -> None:
        self.order: list[int] = np.random.default_rng(0).permutation(self.num_clips).tolist()
        self.passes = PASSES * self.order

    def ours(self) -> dict[str, Callable[[], object]]:
        """One thread and several, with and without motion; plain h5py in between."""
        found: dict[str, Callable[[], object]] = {}
        for name, with_motion in (("", False), (MOTION, True)):
            for threads in (1, self.threads):
                found[ours_name(threads) + name] = partial(self._read, threads, with_motion=with_motion)
            found[OURS + name + UNPACKED] = partial(self._read_plain, with_motion=with_motion)
            found[PLAIN_HDF5 + name] = partial(read_plain_hdf5, self.store, self.passes, with_motion=with_motion)
        return found

    def copies(self, scratch: Path) -> dict[str, Callable[[], object]]:
        """Write what the other peers read."""
        gzip, frames, tar = scratch / "gzip.h5", scratch / "frames", scratch / "frames.tar"
        names = [array.name for array in arrays_of(self.store, with_motion=False)]
        write_gzip(self.store, gzip, self.num_clips)
        self.jpeg_bytes = write_jpegs(self.store, frames, tar, self.num_clips)
        return {
            GZIP: partial(read_gzip, gzip, names, self.order),
            JPEG: partial(read_jpegs, self.store, frames, self.order),
            TAR: partial(read_tar, self.store, tar),
        }

    def floors(self) -> dict[str, Callable[[], object]]:
        """The limits of the machine."""
        found: dict[str, Callable[[], object]] = {}
        for name, with_motion in (("", False), (MOTION, True)):
            floor = Floor(self.store, self.passes, with_motion=with_motion)
            found |= {ZSTD + name: floor.decompress, COPY + name: floor.copy}
        return found

    def sizes(self) -> dict[str, float]:
        """KB (1000 bytes) a clip: stored, in a batch, and as JPEG."""
        stored = self.store.places["sizes"][: self.num_clips].mean(0)
        found = {"kb_a_clip_jpeg": self.jpeg_bytes / self.num_clips / 1000}
        for name, with_motion in (("", False), ("_motion", True)):
            arrays = arrays_of(self.store, with_motion=with_motion)
            found[f"kb_a_clip{name}"] = float(stored[: len(arrays)].sum()) / 1000
            found[f"kb_a_clip_in_batch{name}"] = sum(array.empty().nbytes for array in arrays) / 1000
        return found

    def _batches(self, threads: int, *, with_motion: bool) -> Iterator[Any]:
        gop = np.array(self.passes)
        video = np.searchsorted(self.store.videos.first_gop, gop, side="right") - 1
        centre = np.full(len(gop), 0.5, np.float32)
        draws = Draws(video, gop, centre, centre, np.zeros(len(gop), bool))
        return iter_batches(self.store, draws, BATCH_SIZE, with_motion=with_motion, num_threads=threads)

    def _read(self, threads: int, *, with_motion: bool) -> int:
        return sum(len(batch.labels) for batch in self._batches(threads, with_motion=with_motion))

    def _read_plain(self, *, with_motion: bool) -> None:
        packed = [array for array in arrays_of(self.store, with_motion=with_motion) if array.digits]
        out = {
            array.name: torch.empty(
                (BATCH_SIZE, *array.whole_shape), dtype=torch.int8 if array.read_dtype.itemsize == 1 else torch.int16
            )
            for array in packed
        }
        for batch in self._batches(1, with_motion=with_motion):
            for array in packed:
                unpack(array, batch.planes[array.name], out[array.name][: len(batch.labels)])


def ours_name(threads: int) -> str:
    """Our loader with so many threads, as runs are named; with one it is `mfcd`."""
    return OURS if threads == 1 else f"{OURS}, {threads} threads"


def summarize(
    runs: Mapping[str, Sequence[Run]], missing: Sequence[str], facts: Mapping[str, int | float | str]
) -> BenchResult:
    """Figures of the medians; `facts` has at least `clips`, `threads` and the sizes."""
    clips, threads = int(facts["clips"]), int(facts["threads"])
    took = {name: median_run(taken) for name, taken in runs.items()}
    passes = {name: PASSES if name.startswith((OURS, PLAIN_HDF5, ZSTD, COPY)) else 1 for name in took}
    speed: dict[str, float | None] = {name: passes[name] * clips / run.cpu_seconds for name, run in took.items()}
    speed |= dict.fromkeys(missing)
    others = [n for n in speed if not n.startswith(OURS) and MOTION not in n and n not in {PLAIN_HDF5, ZSTD, COPY}]
    figures = []
    for name, ours, limits in (
        ("", OURS, LIMITS),
        (MOTION, OURS + MOTION, LIMITS),
        (UNPACKED, OURS + UNPACKED, {}),
        (MOTION + UNPACKED, OURS + MOTION + UNPACKED, {}),
    ):
        own = {peer: speed[peer + MOTION * (MOTION in name)] for peer in (PLAIN_HDF5, ZSTD, COPY)}
        peers = {PLAIN_HDF5: own.pop(PLAIN_HDF5), **{peer: speed[peer] for peer in others}, **own}
        value = speed[ours] or 0.0
        figures.append(
            Figure(f"load{name}", "clips/s/core", value, peers, {n: v for n, v in limits.items() if n in peers})
        )
    for name in ("", MOTION):
        one, several = took[OURS + name], took[ours_name(threads) + name]
        figures.append(
            Figure(
                f"load{name}, {threads} threads",
                "clips/s",
                PASSES * clips / several.wall_seconds,
                {"one thread": PASSES * clips / one.wall_seconds},
                {"one thread": SCALING},
            )
        )
    rates = _megabytes(figures, facts)
    return BenchResult(figures[0], (*figures[1:], *rates), facts, runs, describe_machine(PACKAGES))


def _megabytes(figures: Sequence[Figure], facts: Mapping[str, int | float | str]) -> list[Figure]:
    """MB (1e6 bytes) of planes a second of CPU, of those that give the same planes."""
    rates = []
    for figure, name in ((figures[0], ""), (figures[1], "_motion")):
        size = float(facts[f"kb_a_clip_in_batch{name}"]) / 1000
        peers = {peer: v * size for peer, v in figure.peers.items() if v and peer in {PLAIN_HDF5, ZSTD, COPY}}
        rates.append(Figure(f"{figure.name}, planes", "MB/s/core", figure.ours * size, peers))
    return rates


def draw(result: BenchResult, path: Path) -> None:
    """Bars of clips a second of CPU, ours in colour, without memcpy, which dwarfs the rest."""
    plot = Plot(figsize=(7, 6), layout="constrained")
    for axes, figure in zip(plot.subplots(2), (result.headline, result.more[0]), strict=True):
        speeds = {OURS: figure.ours, **{n: v for n, v in figure.peers.items() if v is not None and n != COPY}}
        bars = axes.barh(list(speeds), list(speeds.values()), color=["tab:orange"] + ["tab:gray"] * (len(speeds) - 1))
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(f"{figure.name}, {figure.unit}")
    plot.savefig(path, dpi=120)
