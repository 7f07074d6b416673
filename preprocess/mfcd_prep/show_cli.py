"""The command `mfcd-prep show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfcd_core.atomic import replacing
from mfcd_core.console import say
from mfcd_core.errors import UsageError
from mfcd_prep.options import printable
from mfcd_prep.show import figures_of
from mfcd_prep.show_page import build_page
from mfcd_prep.show_sheet import draw_sheet, summary_lines, title_of
from mfcd_prep.show_source import read_shown_gop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mfcd_prep.show import ShownGop

JPEG_QUALITY = 75


def _write_page(shown: ShownGop, path: Path) -> None:
    path.write_bytes(build_page(shown).encode("utf-8", "replace"))


def _write_png(shown: ShownGop, path: Path) -> None:
    draw_sheet(shown).save(path, "png")


def _write_jpeg(shown: ShownGop, path: Path) -> None:
    draw_sheet(shown).save(path, "jpeg", quality=JPEG_QUALITY)


WRITERS: Mapping[str, Callable[[ShownGop, Path], None]] = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".html": _write_page,
}


@click.command()
@click.argument("source", metavar="VIDEO|STORE", type=click.Path(path_type=Path))
@click.option("--video", "video_id", metavar="ID", show_default="the first", help="Which video of a store.")
@click.option("--gop", "gop_index", type=int, default=0, help="Which GOP of the video, counted from 0.")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write: .png or .jpg, a picture of six frames; .html, a page on all that needs no other file.",
)
def show(source: Path, *, video_id: str | None, gop_index: int, out: Path) -> int:
    """Draw one GOP: frames, motion vectors, residuals, accumulated motion, accumulated and augmented residuals.

    VIDEO is used as it is where it has a regular grid of I- and P-frames; any other is first encoded, into a folder
    that is removed again, as mfcd-prep encode does by default.
    """
    writer = WRITERS.get(out.suffix.lower())
    if writer is None:
        raise UsageError(f"--out {out}: expected a name that ends in {', '.join(WRITERS)}")
    shown = read_shown_gop(source, video_id, gop_index)
    with replacing(out) as part:
        writer(shown, part)
    for line in (title_of(shown), *summary_lines(figures_of(shown))):
        say(printable(line))
    for name, (stored, before) in shown.num_bytes.items():
        say(f"{name}: {stored} bytes, {before} before compression")
    say(f"written to {out}")
    return 0
