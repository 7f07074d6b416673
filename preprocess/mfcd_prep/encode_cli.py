"""The command `mfcd-prep encode`."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfcd_core.console import print_json, say
from mfcd_prep.damage import PROBLEMS
from mfcd_prep.encode import encode_videos, plan_videos
from mfcd_prep.encode_settings import TAILS, EncodeSettings
from mfcd_prep.manifest import MANIFEST_NAME
from mfcd_prep.options import MAX_LISTED, batch_options, list_pairs, parse_size, say_counts

if TYPE_CHECKING:
    from mfcd_prep.encode import EncodePlan, EncodeSummary
    from mfcd_prep.options import BatchOptions
    from mfcd_prep.part import Part


def parse_rate(text: str) -> Fraction:
    """A frame rate as an exact fraction: `30`, `12.5`, `30000/1001`."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{text!r}: expected frames a second, as 30, 12.5 or 30000/1001") from None


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("encoded", type=click.Path(path_type=Path))
@click.option(
    "--videos",
    "lists",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only the videos of this list: lines of `path label`, paths relative to SOURCE; or a split file as published "
    "(UCF101, HMDB51, Kinetics). May be given often.",
)
@click.option(
    "--size", type=parse_size, metavar="WxH", default="256x256", help="Width and height of the encoded frames, pixels."
)
@click.option("--gop-size", type=int, default=12, help="Frames a GOP: one I-frame, the rest P-frames.")
@click.option("--quality", type=int, default=2, help="The encoder's quantiser, 2 (best) to 31.")
@click.option("--fps", type=parse_rate, metavar="RATE", help="Resample to this rate; else every frame is kept.")
@click.option(
    "--tail",
    type=click.Choice(list(TAILS)),
    default="auto",
    help="An incomplete last GOP: drop it, pad it with its last frame, or drop it unless it is the only one (auto).",
)
@click.option("--strict", is_flag=True, help="A damaged video counts as failed, even where it decodes.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Only the first N videos, by id.")
@click.option("--prune", is_flag=True, help="Remove the outputs whose source is gone from SOURCE.")
@batch_options
def encode(  # noqa: PLR0913, one argument an option
    source: Path,
    encoded: Path,
    *,
    lists: tuple[Path, ...],
    size: tuple[int, int],
    gop_size: int,
    quality: int,
    fps: Fraction | None,
    tail: str,
    limit: int | None,
    strict: bool,
    prune: bool,
    batch: BatchOptions,
) -> int:
    """Encode the videos of SOURCE to ENCODED/<id>.mp4: MPEG-4, GOPs of one I-frame and P-frames alone.

    SOURCE is a folder tree `class/video.*`. Colour becomes BT.601 limited range, rotation is applied, pixels become
    square, sound and subtitles are dropped. Every output is decoded and its picture types and frames are checked.
    The same command again does only what is missing; ENCODED/manifest.jsonl has one record a video.
    """
    settings = EncodeSettings(size, gop_size, quality, fps, tail, strict)
    part, timeout_seconds = batch.part, batch.timeout_seconds
    if batch.dry_run:
        plan = plan_videos(source, encoded, settings, lists, limit=limit, part=part, timeout_seconds=timeout_seconds)
        return _show_plan(plan, as_json=batch.as_json)
    summary = encode_videos(
        source,
        encoded,
        settings,
        lists,
        limit=limit,
        part=part,
        workers=batch.workers(),
        timeout_seconds=timeout_seconds,
        prune=prune,
    )
    _show_summary(summary, encoded, part, as_json=batch.as_json)
    return summary.exit_status


def _show_plan(plan: EncodePlan, *, as_json: bool) -> int:
    if as_json:
        todo = [{"id": todo.video.id, "why": todo.why} for todo in plan.iter_todo()]
        facts = {"todo": todo, "unchanged": plan.num_standing, "vanished": plan.vanished}
        print_json(facts | {"ignored": dict(plan.catalog.ignored), "unmatched": plan.catalog.unmatched})
    say(f"would encode {int(plan.todo.sum())} videos, {plan.num_standing} stand as they are")
    say_counts(plan.reasons)
    first = [(todo.video.id, todo.why) for todo in islice(plan.iter_todo(), MAX_LISTED)]
    list_pairs("would encode", first)
    if plan.todo.sum() > len(first):
        say(f"would encode: {int(plan.todo.sum()) - len(first)} more: --json lists them")
    list_pairs("in a list, but not in SOURCE", [(entry, "left out") for entry in plan.catalog.unmatched])
    say_counts({f"left out: {reason}": number for reason, number in sorted(plan.catalog.ignored.items())})
    list_pairs("its source is gone, --prune would remove it", [(video_id, "output") for video_id in plan.vanished])
    return 0


def _show_summary(summary: EncodeSummary, encoded: Path, part: Part, *, as_json: bool) -> None:
    if as_json:
        failures = [failure._asdict() for failure in summary.failures]
        print_json(asdict(summary) | {"failures": failures, "exit_status": summary.exit_status})
    list_pairs("damaged, but kept", summary.damaged, f"see {encoded / MANIFEST_NAME}")
    list_pairs("failed", [(f.id, f.reason) for f in summary.failures], f"see {summary.failures_file}")
    say_counts({"encoded": summary.num_encoded, "unchanged": summary.num_unchanged, "failed": len(summary.failures)})
    say_counts({f"  {problem}: {PROBLEMS.get(problem, problem)}": n for problem, n in summary.problems.items()})
    num_gone = len(summary.vanished) - len(summary.pruned)
    say_counts({"outputs removed": len(summary.pruned), "outputs without their source: --prune removes them": num_gone})
    list_pairs("in a list, but not in SOURCE", [(entry, "left out") for entry in summary.unmatched])
    say_counts({"entries of the lists name no video": len(summary.unmatched)})
    say_counts({f"left out: {reason}": number for reason, number in sorted(summary.ignored.items())})
    say(f"{summary.num_gops} GOPs, {summary.num_frames} frames in {encoded} ({summary.seconds:.1f} s)")
    if summary.failures_file:
        say(f"what failed and why: {summary.failures_file}")
    if summary.num_pending:
        left = f"{summary.num_pending} videos are left to other parts"
        say(f"part {part} is done; {left}: the last one writes the manifest")
