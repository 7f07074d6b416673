"""The commands of `mfcd-prep` that make and check a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfcd_core.console import print_json, say
from mfcd_core.motion import TRACES
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store.compression import AUTO, COMPRESSIONS, LEVELS
from mfcd_core.store.settings import RESIDUAL_STEPS
from mfcd_prep.decode import DECODERS
from mfcd_prep.encode_settings import TAILS
from mfcd_prep.extract import ExtractOptions, extract_videos, plan_extract
from mfcd_prep.info import describe
from mfcd_prep.options import batch_options, jobs_option, json_option, list_pairs, say_counts
from mfcd_prep.subset import EVERYTHING, Subset
from mfcd_prep.verify import verify_store
from mfcd_prep.workers import OnThisMachine

if TYPE_CHECKING:
    from mfcd_prep.extract import ExtractPlan, ExtractSummary
    from mfcd_prep.options import BatchOptions
    from mfcd_prep.part import Part
    from mfcd_prep.verify import VerifySummary

MAX_FINDINGS = 50


def _parse_level(text: str) -> int | str:
    if text == AUTO:
        return AUTO
    if text.removeprefix("-").isdecimal() and int(text) in LEVELS:
        return int(text)
    raise click.BadParameter(f"{text!r}: expected auto, or a zstd level, {LEVELS[0]} to {LEVELS[-1]}")


@click.command()
@click.argument("encoded", type=click.Path(path_type=Path))
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--splits",
    "split_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A split file as published (UCF101, HMDB51, Kinetics), or CSV with columns path,split; may be given often.",
)
@click.option(
    "--trace", type=click.Choice(TRACES), default="subpel", help="Keep fractions of pixels, or CoViAR's rule."
)
@click.option(
    "--pixel-format",
    type=click.Choice(list(PIXEL_FORMATS)),
    show_default="yuv420p; rgb24 with mv-extractor",
    help="Planes that are stored.",
)
@click.option(
    "--decoder",
    type=click.Choice(list(DECODERS)),
    default="pyav",
    help="mv-extractor decodes with an FFmpeg of its own, to RGB alone; Linux on x86-64.",
)
@click.option(
    "--residual-step",
    type=click.Choice([str(step) for step in RESIDUAL_STEPS]),
    default="2",
    help="Residuals are stored divided by it; 1 is lossless.",
)
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    default="zstd",
    help="Of what is stored; none keeps plain values that h5py reads by itself, 17 times as large.",
)
@click.option(
    "--level",
    type=_parse_level,
    metavar="N|auto",
    default="1",
    help="zstd level, -7 to 22; auto: a choice for each data set, smaller and faster to read, slower to write.",
)
@click.option("--tail", type=click.Choice(list(TAILS)), default="auto", help="As for encode; matters for other files.")
@click.option("--shard-gops", type=click.IntRange(min=1), default=256, help="GOPs a shard, about.")
@batch_options
def extract(  # noqa: PLR0913 - one argument an option
    encoded: Path,
    store: Path,
    *,
    split_files: tuple[Path, ...],
    trace: str,
    pixel_format: str | None,
    decoder: str,
    residual_step: str,
    compression: str,
    level: int | str,
    tail: str,
    shard_gops: int,
    batch: BatchOptions,
) -> int:
    """Extract I-frames, accumulated residuals and accumulated motion of ENCODED into STORE.

    ENCODED is what `mfcd-prep encode` made, or a folder of videos that have its grid of I- and P-frames already.
    The same command again makes only the shards that are missing.
    """
    planes = pixel_format or DECODERS[decoder].pixel_formats[0]
    options = ExtractOptions(planes, trace, int(residual_step), level, tail, shard_gops, decoder, compression)
    part, timeout_seconds, workers = batch.part, batch.timeout_seconds, batch.workers()
    if batch.dry_run:
        plan = plan_extract(encoded, store, options, part=part, workers=workers, timeout_seconds=timeout_seconds)
        return _show_plan(plan, as_json=batch.as_json)
    summary = extract_videos(
        encoded,
        store,
        options,
        split_files=split_files,
        part=part,
        workers=workers,
        timeout_seconds=timeout_seconds,
    )
    if batch.as_json:
        failures = [failure._asdict() for failure in summary.failures]
        print_json(asdict(summary) | {"failures": failures, "exit_status": summary.exit_status})
    _show_summary(summary, store, part)
    return summary.exit_status


def _show_summary(summary: ExtractSummary, store: Path, part: Part) -> None:
    list_pairs("failed", [(f.id, f.reason) for f in summary.failures], f"see {summary.failures_file}")
    say_counts({"shards made": summary.num_shards_made, "shards unchanged": summary.num_shards_kept})
    say_counts({"videos failed": len(summary.failures)})
    if summary.failures_file:
        say(f"what failed and why: {summary.failures_file}")
    if summary.num_shards_pending:
        left = f"{summary.num_shards_pending} shards are left to other parts"
        say(f"part {part} is done ({summary.seconds:.1f} s); {left}: the last one writes the index")
        return
    size = f"{summary.num_bytes / max(summary.num_gops, 1) / 1024:.0f} KiB each"
    say(f"{summary.num_videos} videos, {summary.num_gops} GOPs, {size}, in {store} ({summary.seconds:.1f} s)")


def _show_plan(plan: ExtractPlan, *, as_json: bool) -> int:
    todo = [(task.name, f"{len(task.videos)} videos, {task.num_gops} GOPs") for task in plan.todo]
    if as_json:
        failures = [failure._asdict() for failure in plan.survey.failures]
        print_json({"todo": dict(todo), "unchanged": len(plan.kept), "failures": failures})
    say(f"would make {len(todo)} shards, {len(plan.kept)} stand as they are")
    list_pairs("would make", todo)
    return 0


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--deep", "encoded", type=click.Path(path_type=Path), help="Folder of encoded videos to prove it against."
)
@click.option(
    "--subset",
    default="100%",
    metavar="SIZE",
    help="Check a draw of the shards, and with --deep of the videos: a percentage, as 5%, or a number.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the draw; the same one draws the same.")
@jobs_option
@json_option
def verify(store: Path, *, encoded: Path | None, subset: str, seed: int, jobs: int, as_json: bool) -> int:
    """Check a STORE: structure, counts, checksums, places of chunks.

    With --deep ENCODED every video is decoded again, its motion traced again by a plain rule that must give the same,
    and U_t = U_0(p - D_t) + R_t (Eq. 2) proven on every pixel of every GOP. Exit status 1 if anything is wrong.
    """
    drawn = Subset(subset, seed)
    summary = verify_store(store, encoded, OnThisMachine(jobs), drawn)
    if as_json:
        findings = [finding.to_dict() for finding in summary.findings]
        extra = {"findings": findings, "subset": subset, "seed": seed, "exit_status": summary.exit_status}
        print_json(asdict(summary) | extra)
    _say_findings(summary, store)
    _say_checked(summary, drawn, deep=encoded is not None)
    return summary.exit_status


def _say_findings(summary: VerifySummary, store: Path) -> None:
    for finding in summary.findings[:MAX_FINDINGS]:
        say(f"wrong: {finding}")
    if len(summary.findings) > MAX_FINDINGS:
        say(f"wrong: {len(summary.findings) - MAX_FINDINGS} more, see --json")
    if summary.num_shards_damaged:
        say(f"to mend {summary.num_shards_damaged} damaged shards: mfcd-prep repair {store} ENCODED")


def _say_checked(summary: VerifySummary, drawn: Subset, *, deep: bool) -> None:
    if drawn.size != EVERYTHING.size:
        videos = f" and {summary.num_videos_decoded} of {summary.num_videos} videos" if deep else ""
        say(f"only {drawn}: {summary.num_shards_checked} of {summary.num_shards} shards{videos}")
    counts = f"{summary.num_shards} shards, {summary.num_videos} videos, {summary.num_gops} GOPs"
    proven = f", {summary.num_gops_audited} GOPs proven against their videos" if deep else ""
    say(f"{len(summary.findings)} findings in {counts}{proven}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def info(folder: Path, *, as_json: bool) -> int:
    """Say what a FOLDER of encoded videos, or a store, holds."""
    facts = describe(folder)
    if as_json:
        print_json(facts)
        return 0
    _say_facts(facts)
    return 0


def _say_facts(facts: dict[str, Any], indent: str = "") -> None:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            say(f"{indent}{name}:")
            _say_facts(value, indent + "  ")
        else:
            say(f"{indent}{name}: {value}")
