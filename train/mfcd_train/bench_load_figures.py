"""Figures of `mfcd-bench load`: what its runs come to, as table, JSON and plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Plot

from mfcd_core.bench import BenchResult, Figure, median_run
from mfcd_core.machine import describe_machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mfcd_core.bench import Run

    Facts = Mapping[str, int | float | str]

PACKAGES = (
    "mfcd",
    "numpy",
    "zstandard",
    "torch",
    "h5py",
    "hdf5plugin",
    "pillow",
    "av",
    "torchcodec",
    "decord",
    "webdataset",
)
OURS, PLAIN_HDF5, ZSTD, COPY = "mfcd", "h5py + hdf5plugin", "zstd alone", "memcpy alone"
GZIP, JPEG, TAR, WEBDATASET = (
    "h5py gzip",
    "JPEG frames",
    "tar of JPEG frames (tarfile)",
    "tar of JPEG frames (webdataset)",
)
ON_THE_FLY = "PyAV, traced on the fly"  # as mfcd_prep names it
STORED, MOTION = ", as stored", ", motion"
ASSEMBLY = {"assembly, augmented": ("augmented",), "assembly, augmented and rgb": ("augmented", "rgb")}
LIMITS = {PLAIN_HDF5: 1.4, JPEG: 4.0, ON_THE_FLY: 4.0}  # the targets, as ratios ours / peer
NUM_READS = 5000  # of the quick ones, of all clips over and over: seconds, so that how they begin does not count
NUM_ASSEMBLIES = 8  # of one batch: fresh memory of a first one takes longer than all the rest
SCALING = 1.8  # of two threads over one


def threads_name(threads: int) -> str:
    """Our loader with so many threads, as runs are named."""
    return f"{OURS}, {threads} threads"


def workers_name(processes: int) -> str:
    """Our data set in so many worker processes of a DataLoader."""
    return f"{OURS}, {processes} processes"


def summarize(runs: Mapping[str, Sequence[Run]], absent: Mapping[str, str], facts: Facts) -> BenchResult:
    """Figures of the medians; absent: why others did not run; facts: at least `clips`, `passes`, `threads`, sizes."""
    clips, passes, threads = int(facts["clips"]), int(facts["passes"]), int(facts["threads"])
    took = {name: median_run(taken) for name, taken in runs.items()}
    speed: dict[str, float | None] = {
        name: (passes if is_quick(name) else 1) * clips / run.cpu_seconds for name, run in took.items()
    }
    speed |= dict.fromkeys(absent)
    figures = [_speeds(speed, name) for name in ("", MOTION)]
    figures += [_stored_speeds(speed, name) for name in ("", MOTION)]
    wall = {name: passes * clips / run.wall_seconds for name, run in took.items()}
    figures += [_scaling(wall, threads, name) for name in ("", MOTION)]
    figures += [
        _megabytes(figure, float(facts[f"kb_a_clip_in_batch{name}"]) / 1000, float(facts["kb_a_clip_rgb"]) / 1000)
        for figure, name in zip(figures, ("", "_motion"), strict=False)
    ]
    figures += [_cpu_seconds(figure) for figure in figures[:2]]
    said = {who: f"did not run, {why}" for who, why in absent.items()}
    batch_ms = {name: 1000 * took[name].cpu_seconds / NUM_ASSEMBLIES for name in ASSEMBLY if name in took}
    said |= {f"ms a batch, {name}": f"{ms:.0f}" for name, ms in batch_ms.items()}
    return BenchResult(figures[0], tuple(figures[1:]), {**facts, **said}, runs, describe_machine(PACKAGES))


def passes_over(clips: int) -> int:
    """How often a quick contender reads every clip."""
    return -(-NUM_READS // max(clips, 1))


def is_quick(name: str) -> bool:
    """Whether a contender reads every clip so often; the others read it once."""
    return name.startswith((OURS, ZSTD, COPY)) or STORED in name


def _speeds(speed: Mapping[str, float | None], name: str) -> Figure:
    """Clips a second of CPU in plain values. Peers of RGB hold all there is, with or without motion."""
    own = {PLAIN_HDF5 + name, GZIP + name, ZSTD + name, COPY + name}
    others = [who for who in speed if not who.startswith((OURS, PLAIN_HDF5, GZIP, ZSTD, COPY)) and who not in ASSEMBLY]
    order = [PLAIN_HDF5 + name, GZIP + name, *others, ZSTD + name, COPY + name]
    peers = {who.removesuffix(MOTION) if who in own else who: speed[who] for who in order}
    limits = {who: limit for who, limit in LIMITS.items() if who in peers}
    return Figure(f"load{name}", "clips/s/core", speed[OURS + name] or 0.0, peers, limits)


def _stored_speeds(speed: Mapping[str, float | None], name: str) -> Figure:
    """Clips a second of CPU, differences and digits left as they are, on both sides."""
    ours, peer = OURS + STORED + name, PLAIN_HDF5 + STORED + name
    return Figure(
        f"load{STORED}{name}",
        "clips/s/core",
        speed[ours] or 0.0,
        {PLAIN_HDF5: speed[peer]},
        {PLAIN_HDF5: LIMITS[PLAIN_HDF5]},
    )


def _scaling(wall: Mapping[str, float], threads: int, name: str) -> Figure:
    one, workers = "one thread", f"{threads} worker processes"
    peers = {one: wall[OURS + name], workers: wall[workers_name(threads) + name]}
    return Figure(
        f"load{name}, {threads} threads", "clips/s", wall[threads_name(threads) + name], peers, {one: SCALING}
    )


def _megabytes(figure: Figure, planes: float, rgb: float) -> Figure:
    """MB (1e6 bytes) of what each gives a second of CPU: planes, or RGB frames, from MB a clip."""
    sizes = {who: rgb if "JPEG" in who or "RGB" in who else planes for who in figure.peers}
    peers = {who: v and v * sizes[who] for who, v in figure.peers.items()}
    return Figure(f"{figure.name}, bytes", "MB/s/core", figure.ours * planes, peers)


def _cpu_seconds(figure: Figure) -> Figure:
    """What the speeds are quotients of."""
    peers = {who: v and 1000 / v for who, v in figure.peers.items()}
    return Figure(f"{figure.name}, CPU", "s/1000 clips", 1000 / figure.ours, peers, lower_is_better=True)


def draw(result: BenchResult, path: Path) -> None:
    """Bars of clips a second of CPU, ours in colour, without memcpy, which dwarfs the rest."""
    plot = Plot(figsize=(8, 7), layout="constrained")
    for axes, figure in zip(plot.subplots(2), (result.headline, result.more[0]), strict=True):
        speeds = {OURS: figure.ours, **{n: v for n, v in figure.peers.items() if v is not None and n != COPY}}
        bars = axes.barh(list(speeds), list(speeds.values()), color=["tab:orange"] + ["tab:gray"] * (len(speeds) - 1))
        axes.bar_label(bars, fmt="%.0f", padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(f"{figure.name}, {figure.unit}")
    plot.savefig(path, dpi=120)
