"""`mfcd-bench load`: from a store to batches, beside HDF5, JPEG frames, decoding, and what the machine can do."""

from __future__ import annotations

import importlib
import os
import tempfile
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch
from torch.utils.data import DataLoader

from mfcd_core.bench import interleave, repeats_option, report, run_here
from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.assemble import Assembler
from mfcd_train.batch_dataset import BatchDataset
from mfcd_train.bench_load_figures import (
    ASSEMBLY,
    COPY,
    GZIP,
    JPEG,
    MOTION,
    NUM_ASSEMBLIES,
    OURS,
    PLAIN_HDF5,
    STORED,
    TAR,
    WEBDATASET,
    ZSTD,
    draw,
    passes_over,
    summarize,
    threads_name,
    workers_name,
)
from mfcd_train.bench_load_peers import (
    BATCH_SIZE,
    Floor,
    arrays_of,
    read_chunks,
    read_gzip,
    read_hdf5,
    read_jpegs,
    read_tar,
    read_webdataset,
    write_gzip,
    write_jpegs,
)
from mfcd_train.dataset import Draws
from mfcd_train.loader import iter_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mfcd_core.bench import BenchResult, Run
    from mfcd_train.loader import Batch

    Contenders = dict[str, Callable[[], Run] | str]

DECODERS = "mfcd.bench.load"
CROP_PX = 224  # of a clip, where frames are as large


@click.command()
@click.argument("path", metavar="STORE", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--encoded", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Files that STORE is of: decoders."
)
@click.option("--threads", type=click.IntRange(min=2), default=2, help="Our threads, and our processes, beside one.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Only the first N videos, by id.")
@repeats_option
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="PNG file to draw the speeds into.")
@click.option("--json", "as_json", is_flag=True, help="One machine-readable summary on stdout.")
def load(
    path: Path, *, encoded: Path | None, threads: int, limit: int | None, repeats: int, plot: Path | None, as_json: bool
) -> int:
    """Load STORE: clips a second of CPU, beside other ways to read the same clips.

    Ours is the loader of mfcd-train with one thread: clips in random order, checked, in batches of 32, in plain values:
    nothing is left to be decompressed or unpacked. Peers give plain values, too: h5py + hdf5plugin from the same shards
    with the NumPy lines of the store's documentation, h5py with gzip from a copy, Pillow and webdataset JPEG frames of
    quality 95, and, with --encoded, decoders the encoded files from beginning to end. `as stored` is the same without
    unpacking, on both sides: h5py against our reader alone.

    zstd alone, unchecked, and memcpy alone are what the machine can do. The files are read once before anything is
    measured. Copies go to the folder for temporary files (TMPDIR) and are removed.
    """
    torch.set_num_threads(1)
    if plot is not None and not os.access(plot.parent, os.W_OK):
        raise UsageError(f"--plot {plot}: expected a file in a folder that may be written to")
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
        contenders = bench.ours() | bench.copies(Path(name)) | bench.floors() | bench.assembly()
        if encoded is not None:
            contenders |= find_decoders(store, encoded, num_videos)
        there = {who: work for who, work in contenders.items() if not isinstance(work, str)}
        runs = {who: taken[1:] for who, taken in interleave(there, repeats + 1).items()}  # the first one warms up
    absent = {who: why for who, why in contenders.items() if isinstance(why, str)}
    facts: dict[str, int | float | str] = {"videos": num_videos, "clips": num_clips, "repeats": repeats}
    facts |= {"threads": threads, "passes": passes_over(num_clips), **bench.sizes()}
    return summarize(runs, absent, facts)


def find_decoders(store: Store, encoded: Path, num_videos: int) -> Contenders:
    """What installed packages declare, on the files of the first videos; or why it does not run."""
    paths = [encoded / f"{video_id}.mp4" for video_id in store.videos.ids[:num_videos].tolist()]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UsageError(f"{missing[0]} is not there: expected --encoded to be the folder that {store.path} is of")
    found: Contenders = {}
    for entry in entry_points(group=DECODERS):
        declared = entry.load()(paths, store.settings)
        found |= {who: work if isinstance(work, str) else partial(run_here, work) for who, work in declared.items()}
    return found


@dataclass
class LoadBench:
    """The contenders that need no decoder, all on the first `num_clips` GOPs in one random order."""

    store: Store
    num_clips: int
    threads: int
    jpeg_bytes: int = 0
    rows: list[int] = field(init=False)
    loaders: dict[bool, DataLoader[Batch]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order: list[int] = np.random.default_rng(0).permutation(self.num_clips).tolist()
        self.rows = passes_over(self.num_clips) * self.order

    def ours(self) -> Contenders:
        """One thread, and several right after it; processes; with and without motion, and as stored; plain h5py."""
        found: Contenders = {}
        for name, with_motion in (("", False), (MOTION, True)):
            kinds: dict[str, Callable[..., object]] = {
                OURS: partial(self._read, 1),
                threads_name(self.threads): partial(self._read, self.threads),
                PLAIN_HDF5: partial(read_hdf5, self.store, self.order, as_stored=False),
                OURS + STORED: partial(read_chunks, self.store, self.rows),
                PLAIN_HDF5 + STORED: partial(read_hdf5, self.store, self.rows, as_stored=True),
                workers_name(self.threads): self._read_in_workers,
            }
            found |= {
                who + name: partial(run_here, partial(work, with_motion=with_motion)) for who, work in kinds.items()
            }
        return found

    def copies(self, scratch: Path) -> Contenders:
        """Write what the other peers read."""
        gzip, frames, tar = scratch / "gzip.h5", scratch / "frames", scratch / "frames.tar"
        names = [array.name for array in arrays_of(self.store, with_motion=True)]  # motion is the last
        write_gzip(self.store, gzip, self.num_clips)
        self.jpeg_bytes = write_jpegs(self.store, frames, tar, self.num_clips)
        works: dict[str, Callable[[], object]] = {
            GZIP: partial(read_gzip, gzip, names[:-1], self.order),
            GZIP + MOTION: partial(read_gzip, gzip, names, self.order),
            JPEG: partial(read_jpegs, self.store, frames, self.order),
            TAR: partial(read_tar, self.store, tar),
        }
        found: Contenders = {who: partial(run_here, work) for who, work in works.items()}
        why = why_not("webdataset")
        return found | {WEBDATASET: why or partial(run_here, partial(read_webdataset, self.store, tar))}

    def floors(self) -> Contenders:
        """The limits of the machine."""
        found: Contenders = {}
        for name, with_motion in (("", False), (MOTION, True)):
            floor = Floor(self.store, self.rows, with_motion=with_motion)
            found |= {ZSTD + name: partial(run_here, floor.decompress), COPY + name: partial(run_here, floor.copy)}
        return found

    def assembly(self) -> Contenders:
        """What is left to the device, on the CPU: the same batch of planes to clips, over and over."""
        settings = self.store.settings
        side = min(settings.height_px, settings.width_px)
        assembler = Assembler(settings, side, min(CROP_PX, side))
        batch = next(self._batches(1, with_motion=True))
        works = {name: partial(assembler, batch, formats) for name, formats in ASSEMBLY.items()}
        return {name: partial(run_here, partial(repeat, work, NUM_ASSEMBLIES)) for name, work in works.items()}

    def sizes(self) -> dict[str, float]:
        """KB (1000 bytes) a clip: stored, in a batch, and as JPEG."""
        stored = self.store.places["sizes"][: self.num_clips].mean(0)
        settings = self.store.settings
        found = {"kb_a_clip_jpeg": self.jpeg_bytes / self.num_clips / 1000}
        found["kb_a_clip_rgb"] = settings.gop_size * settings.height_px * settings.width_px * 3 / 1000
        for name, with_motion in (("", False), ("_motion", True)):
            arrays = arrays_of(self.store, with_motion=with_motion)
            found[f"kb_a_clip{name}"] = float(stored[: len(arrays)].sum()) / 1000
            found[f"kb_a_clip_in_batch{name}"] = sum(array.num_bytes for array in arrays) / 1000
        return found

    def _draws(self) -> Draws:
        gop = np.array(self.rows)
        video = np.searchsorted(self.store.videos.first_gop, gop, side="right") - 1
        centre = np.full(len(gop), 0.5, np.float32)
        return Draws(video, gop, centre, centre, np.zeros(len(gop), bool), centre)

    def _batches(self, threads: int, *, with_motion: bool) -> Iterator[Batch]:
        return iter_batches(self.store, self._draws(), BATCH_SIZE, with_motion=with_motion, num_threads=threads)

    def _read(self, threads: int, *, with_motion: bool) -> int:
        return sum(len(batch.labels) for batch in self._batches(threads, with_motion=with_motion))

    def _read_in_workers(self, *, with_motion: bool) -> int:
        """They go on living between the runs: the first one, which does not count, starts them."""
        if with_motion not in self.loaders:
            dataset = BatchDataset(self.store, self._draws(), BATCH_SIZE, with_motion=with_motion)
            self.loaders[with_motion] = DataLoader(
                dataset,
                batch_size=None,
                num_workers=self.threads,
                persistent_workers=True,
                multiprocessing_context="spawn",  # a fork of a process that has computed with threads may hang
            )
        return sum(len(batch.labels) for batch in self.loaders[with_motion])


def repeat(work: Callable[[], object], times: int) -> None:
    """Do it so often."""
    for _ in range(times):
        work()


def why_not(package: str) -> str:
    """Why a package cannot be used, in one line; empty where it can."""
    if find_spec(package) is None:
        return "not installed"
    try:
        importlib.import_module(package)
    except Exception as error:  # noqa: BLE001 - whatever a foreign package raises is the answer
        return f"does not load: {next(iter(str(error).splitlines()), type(error).__name__)}"
    return ""
