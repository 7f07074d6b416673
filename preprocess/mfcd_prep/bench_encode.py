"""`mfcd-bench encode`: the whole of `mfcd-prep encode` beside the bare ffmpeg program at the same settings."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import xxhash

from mfcd_core.bench import (
    BenchResult,
    Figure,
    Run,
    interleave,
    median_run,
    repeats_option,
    report,
    run_here,
    run_process,
)
from mfcd_core.errors import MfcdError, VideoError
from mfcd_core.machine import describe_machine
from mfcd_prep.encode import plan_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.ffmpeg import LOGGED, ffmpeg_binary, ffmpeg_version
from mfcd_prep.hashing import hash_file
from mfcd_prep.manifest import read_manifest
from mfcd_prep.mpeg4 import read_picture_types
from mfcd_prep.options import jobs_option, json_option
from mfcd_prep.source import probe
from mfcd_prep.transcode import encode_command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mfcd_prep.manifest import VideoRecord
    from mfcd_prep.source import SourceInfo

SETTINGS = EncodeSettings()
PROGRAM = (sys.executable, "-P", "-c", "from mfcd_prep.cli import main; main()", "encode")
PACKAGES = ("mfcd", "av", "imageio-ffmpeg", "loky")
DONE, SOME_FAILED, XARGS_SOME_FAILED = 0, 1, 123
OURS, LOOP, START, CHECK = "mfcd", "shell loop of ffmpeg", "mfcd, nothing to do", "check alone"
THREADS = ("-threads", "-filter_threads", "-filter_complex_threads")
NO_SLOWER = 1.0  # the target: at least the speed of the bare program, at as many jobs


@click.command()
@click.argument("videos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@jobs_option
@repeats_option
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Only the first N videos, by id.")
@json_option
def encode(videos: Path, *, jobs: int, repeats: int, limit: int | None, as_json: bool) -> int:
    """Encode VIDEOS: frames a second and CPU a frame, beside ffmpeg itself.

    VIDEOS is a folder tree, as `mfcd-prep encode` takes it. Ours is that command as a process, all of it: start,
    probing, hashing, encoding, the check of every output, the journal. The peers run the same ffmpeg with
    the same encoder and filters and check nothing: a shell loop, one video after another; `xargs -P JOBS`; and
    `xargs -P JOBS` with our own arguments to the letter, which give each video one thread and write the same bytes.

    Two parts of ours are measured alone: its start (a run that finds everything done), and the check.
    Outputs go to the folder for temporary files (TMPDIR) and are removed.
    """
    return report(bench_encode(videos.resolve(), jobs, repeats, limit), as_json=as_json)


def bench_encode(source: Path, jobs: int, repeats: int, limit: int | None) -> BenchResult:
    """Measure; see `encode`. Raises UsageError where there is nothing to encode, MfcdError where a contender fails."""
    with tempfile.TemporaryDirectory(prefix="mfcd-bench-") as name:
        bench = EncodeBench(source, Path(name), jobs, limit)
        runs = interleave(bench.contenders(), repeats)
        records = bench.records()
        num_plain = {peer: len(list((bench.scratch / peer).glob("*.mp4"))) for peer in peers_of(jobs)}
    good = [record for record in records if record.status == "ok"]
    for peer, number in num_plain.items():
        if number < len(good):
            raise MfcdError(f"{peer} encoded {number} of {len(good)} videos: is the disk full?")
    facts = {"videos": len(good), "frames": sum(record.num_frames_decoded or 0 for record in good)}
    facts |= {"failed": len(records) - len(good), "jobs": jobs, "repeats": repeats}
    return summarize(runs, facts)


@dataclass(frozen=True)
class EncodeBench:
    """The contenders; each writes to the folder of its name in `scratch`."""

    source: Path
    scratch: Path
    jobs: int
    limit: int | None

    def contenders(self) -> dict[str, Callable[[], Run]]:
        """By name, in order: the last two work on what the first has written."""
        sources = self._probed_sources()
        loop = self._write_lines("loop", "\n", [*self._shell_lines(sources, LOOP), "true"])
        _, *parallel = peers_of(self.jobs)
        return {
            OURS: self._encode_anew,
            LOOP: lambda: run_process(("sh", str(loop)), self._emptied(LOOP)),
            **{peer: self._by_xargs(sources, peer) for peer in parallel},
            START: self._encode,
            CHECK: lambda: run_here(self._check),
        }

    def _by_xargs(self, sources: Sequence[tuple[Path, SourceInfo]], peer: str) -> Callable[[], Run]:
        shell_lines = [f"exec {line}" for line in self._shell_lines(sources, peer)]
        lines = self._write_lines(f"{peer}.lines", "\0", shell_lines)
        shells = ("xargs", "-0", "-n", "1", "-P", str(self.jobs), "sh", "-c")
        return lambda: run_process(shells, self._emptied(peer), (DONE, XARGS_SOME_FAILED), stdin=lines)

    def records(self) -> tuple[VideoRecord, ...]:
        """What our own command has recorded."""
        return read_manifest(self.scratch / OURS).videos

    def _probed_sources(self) -> list[tuple[Path, SourceInfo]]:
        """What the peers encode: all that is a video. Reading every file first warms the system's cache of files."""
        plan = plan_videos(self.source, self.scratch / OURS, SETTINGS, limit=self.limit)
        sources = []
        for todo in plan.iter_todo():
            path = plan.catalog.root / todo.video.path
            hash_file(path, xxhash.xxh3_64())
            with suppress(VideoError):
                sources.append((path, probe(path)))
        return sources

    def _shell_lines(self, sources: Sequence[tuple[Path, SourceInfo]], peer: str) -> list[str]:
        """One line a video, to a folder of the peer's own, log thrown away."""
        lines = []
        change = list if peer == alike_name(self.jobs) else as_typed
        for number, (path, info) in enumerate(sources):
            target = self.scratch / peer / f"{number}.mp4"
            command = encode_command(path, info, target, SETTINGS)
            lines.append(shlex.join([ffmpeg_binary(), *change(command.arguments())]) + " 2>/dev/null")
        return lines

    def _write_lines(self, name: str, end: str, lines: Sequence[str]) -> Path:
        path = self.scratch / name
        path.write_text("".join(line + end for line in lines), "utf-8")
        return path

    def _emptied(self, contender: str) -> Path:
        """The contender's folder, with nothing in it."""
        shutil.rmtree(self.scratch / contender, ignore_errors=True)
        (self.scratch / contender).mkdir()
        return self.scratch / contender

    def _encode_anew(self) -> Run:
        self._emptied(OURS)
        return self._encode()

    def _encode(self) -> Run:
        limit = [] if self.limit is None else ["--limit", str(self.limit)]
        folders = [str(self.source), str(self.scratch / OURS)]
        command = (*PROGRAM, *folders, "--jobs", str(self.jobs), *limit)
        return run_process(command, self.scratch, (DONE, SOME_FAILED))

    def _check(self) -> None:
        for record in self.records():
            if record.status == "ok":
                read_picture_types(self.scratch / OURS / f"{record.id}.mp4")


def xargs_name(jobs: int) -> str:
    """The second peer, as the table names it."""
    return f"xargs -P {jobs} of ffmpeg"


def alike_name(jobs: int) -> str:
    """The third."""
    return f"{xargs_name(jobs)}, our arguments"


def peers_of(jobs: int) -> tuple[str, str, str]:
    """Names of the peers, in order."""
    return LOOP, xargs_name(jobs), alike_name(jobs)


def as_typed(arguments: Sequence[str]) -> list[str]:
    """Our arguments as a person would give them: same pictures, but threads are left to ffmpeg, its log is short."""
    left_out = {i + k for i, text in enumerate(arguments) if text in THREADS for k in (0, 1)}
    kept = [text for i, text in enumerate(arguments) if i not in left_out]
    return ["-nostdin", "-loglevel", "error", *kept[len(LOGGED) :]]


def summarize(runs: Mapping[str, Sequence[Run]], facts: Mapping[str, int]) -> BenchResult:
    """Figures of the medians; `facts` has at least `frames` and `jobs`."""
    took = {name: median_run(taken) for name, taken in runs.items()}
    peers = {name: took[name] for name in peers_of(facts["jobs"])}
    working = Run(took[OURS].wall_seconds - took[START].wall_seconds, took[OURS].cpu_seconds - took[START].cpu_seconds)
    figures = [*_figures("", took[OURS], peers, facts["frames"])]
    if min(working.wall_seconds, working.cpu_seconds) > 0:
        figures += _figures(" without our start", working, peers, facts["frames"])
    limits = dict.fromkeys((xargs_name(facts["jobs"]), alike_name(facts["jobs"])), NO_SLOWER)
    found: dict[str, int | float | str] = {
        **facts,
        "start_seconds": took[START].wall_seconds,
        "start_cpu_seconds": took[START].cpu_seconds,
        "check_share_of_cpu": took[CHECK].cpu_seconds / took[OURS].cpu_seconds,
        "ffmpeg": ffmpeg_version(ffmpeg_binary()),
    }
    return BenchResult(replace(figures[0], limits=limits), tuple(figures[1:]), found, runs, describe_machine(PACKAGES))


def _figures(suffix: str, ours: Run, peers: Mapping[str, Run], num_frames: int) -> list[Figure]:
    return [
        Figure(
            f"encode{suffix}",
            "frames/s",
            num_frames / ours.wall_seconds,
            {name: num_frames / run.wall_seconds for name, run in peers.items()},
        ),
        Figure(
            f"CPU of encode{suffix}",
            "ms/frame",
            1000 * ours.cpu_seconds / num_frames,
            {name: 1000 * run.cpu_seconds / num_frames for name, run in peers.items()},
            lower_is_better=True,
        ),
    ]
