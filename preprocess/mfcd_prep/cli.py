"""The command `mfcd-prep`."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfcd_core.console import main_of, print_json, say
from mfcd_prep.encode import encode_videos, plan_videos
from mfcd_prep.options import jobs_option, json_option, list_pairs, printable
from mfcd_prep.sample import write_samples
from mfcd_prep.show_cli import show
from mfcd_prep.store_cli import extract, info, verify
from mfcd_prep.transcode import TAILS, EncodeSettings

if TYPE_CHECKING:
    from mfcd_prep.encode import EncodePlan, EncodeSummary


def parse_size(text: str) -> tuple[int, int]:
    """`WxH` as (width, height)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{text!r}: expected width x height in pixels, as 256x256")
    return int(width), int(height)


def parse_rate(text: str) -> Fraction:
    """A frame rate as an exact fraction: `30`, `12.5`, `30000/1001`."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{text!r}: expected frames a second, as 30, 12.5 or 30000/1001") from None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="mfcd")
def cli() -> None:
    """From a folder of videos to a store that networks are trained from.

    Exit status: 0 all done; 1 done, but some videos failed (listed); 2 wrong usage or nothing usable;
    130 interrupted, nothing lost: run the same command again.
    """


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--videos-per-class", type=click.IntRange(min=1), default=12, help="Videos of each class.")
@click.option("--size", type=parse_size, metavar="WxH", default="128x128", help="Width and height in pixels.")
@click.option("--frames", "num_frames", type=click.IntRange(min=1), default=48, help="Frames of each video.")
@click.option("--seed", type=int, default=0, help="Another seed draws other videos.")
@jobs_option
@json_option
def sample(
    out: Path, videos_per_class: int, size: tuple[int, int], num_frames: int, seed: int, jobs: int, *, as_json: bool
) -> int:
    """Write procedural action videos into OUT: classes that differ by motion alone."""
    summary = write_samples(out, videos_per_class, size, num_frames, seed, jobs)
    if as_json:
        print_json(asdict(summary))
    say(f"{summary.num_videos} videos of {len(summary.classes)} classes in {out}: next, mfcd-prep encode {out} ENCODED")
    return 0


@cli.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("encoded", type=click.Path(path_type=Path))
@click.option(
    "--videos",
    "videos_list",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only the videos of this list: lines of `path label`, paths relative to SOURCE; or an official split file.",
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
@click.option(
    "--timeout", "timeout_seconds", type=click.FloatRange(min=0, min_open=True), help="Seconds a video may take."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and why; change nothing.")
@jobs_option
@json_option
def encode(  # noqa: PLR0913, one argument an option
    source: Path,
    encoded: Path,
    *,
    videos_list: Path | None,
    size: tuple[int, int],
    gop_size: int,
    quality: int,
    fps: Fraction | None,
    tail: str,
    limit: int | None,
    timeout_seconds: float | None,
    jobs: int,
    strict: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Encode the videos of SOURCE to ENCODED/<id>.mp4: MPEG-4, GOPs of one I-frame and P-frames alone.

    SOURCE is a folder tree `class/video.*`. Colour becomes BT.601 limited range, rotation is applied, pixels become
    square, sound and subtitles are dropped. Every output is decoded and its picture types and frames are checked.
    The same command again does only what is missing; ENCODED/manifest.jsonl has one record a video.
    """
    settings = EncodeSettings(size, gop_size, quality, fps, tail, strict)
    if dry_run:
        return _show_plan(plan_videos(source, encoded, settings, videos_list, limit), as_json=as_json)
    summary = encode_videos(
        source,
        encoded,
        settings,
        videos_list=videos_list,
        limit=limit,
        jobs=jobs,
        timeout_seconds=timeout_seconds,
    )
    if as_json:
        print_json(asdict(summary) | {"exit_status": summary.exit_status})
    _show_summary(summary, encoded)
    return summary.exit_status


def _show_plan(plan: EncodePlan, *, as_json: bool) -> int:
    if as_json:
        todo = [{"id": todo.video.id, "why": todo.why} for todo in plan.todo]
        print_json({"todo": todo, "unchanged": len(plan.kept), "ignored": dict(plan.catalog.ignored)})
    say(f"would encode {len(plan.todo)} videos, {len(plan.kept)} stand as they are")
    for why, number in plan.reasons.items():
        say(f"{number:8d} {why}")
    list_pairs("would encode", [(todo.video.id, todo.why) for todo in plan.todo])
    return 0


def _show_summary(summary: EncodeSummary, encoded: Path) -> None:
    list_pairs("damaged, but kept", summary.damaged)
    list_pairs("failed", summary.failures)
    say(f"{summary.num_encoded:8d} encoded")
    say(f"{summary.num_unchanged:8d} unchanged")
    say(f"{len(summary.failures):8d} failed")
    for reason, number in sorted(summary.ignored.items()):
        say(f"{number:8d} left out: {printable(reason)}")
    say(f"{summary.num_gops} GOPs, {summary.num_frames} frames in {encoded} ({summary.seconds:.1f} s)")


for command in (extract, verify, info, show):
    cli.add_command(command)

main = main_of(cli)
