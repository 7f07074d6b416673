"""The command `mfcd-prep sample`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mfcd_core.console import print_json, say
from mfcd_prep.options import jobs_option, json_option, parse_size, workers_of
from mfcd_prep.sample import write_samples


@click.command()
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
    summary = write_samples(out, videos_per_class, size, num_frames, seed, workers_of(jobs, None))
    if as_json:
        print_json(asdict(summary))
    say(f"{summary.num_videos} videos of {len(summary.classes)} classes in {out}: next, mfcd-prep encode {out} ENCODED")
    return 0
