"""`mfcd-eval features`: one page on what networks make of the same clip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfcd_core.console import print_json, say
from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_train.build import build_fabric
from mfcd_train.dataset import split_rows
from mfcd_train.features import likeness, liveliest, look, picture_of_map, spread_times
from mfcd_train.models.mfnet3d import HINT_LAYERS
from mfcd_train.page import write_page
from mfcd_train.report import choose_gop
from mfcd_train.runlog import names_of, open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from mfcd_train.features import Likeness, Seen
    from mfcd_train.runlog import RunLog

PATH = click.Path(path_type=Path)
TEMPLATE = "features.html.j2"


@dataclass(frozen=True)
class MapRow:
    """A row of tiles: one channel of one run; pictures (n, H, W, 3) of the frames that the page shows."""

    run: str
    channel: int
    pictures: NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """What the page says of a layer. alike: by run, beside the first. rows: by channel of the first run."""

    name: str
    shape: tuple[int, ...]
    frames: list[int]
    alike: Mapping[str, Likeness | None]
    rows: Mapping[int, list[MapRow]]


@click.command("features", context_settings={"show_default": True})
@click.argument("store", type=PATH)
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="HTML file to write; it needs no other file.")
@click.option("--video", help="Id of the video.  [default: the test video whose motion tells most]")
@click.option("--gop", type=click.IntRange(min=0), help="Its GOP, from 0.  [default: the middle one]")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    type=click.Choice(HINT_LAYERS),
    default=HINT_LAYERS[:2],
    help="Layer to show; may be given often.",
)
@click.option(
    "--channel", "channels", multiple=True, type=click.IntRange(min=0), help="Channel to show, of each layer."
)
@click.option("--channels", "num_channels", type=click.IntRange(1, 64), default=4, help="Channels a layer, else.")
@click.option("--match", is_flag=True, help="Beside a channel of the first run show the most alike one of the others.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="Print how alike the maps are on stdout.")
def features(  # noqa: PLR0913 - one argument an option
    store: Path,
    runs: tuple[Path, ...],
    *,
    out: Path,
    video: str | None,
    gop: int | None,
    layers: tuple[str, ...],
    channels: tuple[int, ...],
    num_channels: int,
    match: bool,
    device: str,
    as_json: bool,
) -> int:
    """One page on the maps that the first layers of RUNS make of the same clip, beside those of the first run.

    Give the teacher first, then the student, then a network of residuals alone: the paper's Figures 6 to 14. Channels
    are those of the first run that vary most. Those of the same number mean the same only in networks that began with
    the same weights, or mimic each other: --match looks for the most alike one.
    """
    opened, logs = Store(store), [open_run(run) for run in runs]
    video, gop = _choose(opened, logs[0], video, gop)
    fabric = build_fabric(logs[0].recipe, device)
    names, all_seen = names_of(runs), [look(fabric, log, opened, video, gop) for log in logs]
    seen = dict(zip(names, all_seen, strict=True))
    shown = [_layer(layer, seen, channels, num_channels, match=match) for layer in layers]
    times = spread_times(opened.settings.gop_size)
    fed = [(name, log.recipe.data.clip_format, seen[name].clip[times]) for name, log in zip(names, logs, strict=True)]
    place = {"store_name": opened.path.resolve().name, "video": video, "gop": gop}
    write_page(out, TEMPLATE, **place, fed=fed, times=times.tolist(), layers=shown, match=match)
    say(f"features: {out.resolve()}")
    if as_json:
        print_json(_result(video, gop, shown))
    return 0


def _choose(store: Store, run: RunLog, video: str | None, gop: int | None) -> tuple[str, int]:
    if video is None:
        if gop is not None:
            raise UsageError("--gop without --video: expected the id of the video, too")
        return choose_gop(store, split_rows(store, run.recipe.data.split)["test"])[:2]
    gop = int(store.videos.num_gops[store.videos.row_of(video)]) // 2 if gop is None else gop
    store.read_gop(video, gop)  # raises where there is none
    return video, gop


def _layer(name: str, seen: Mapping[str, Seen], channels: Sequence[int], num_channels: int, *, match: bool) -> Layer:
    maps = {run: found.maps[name] for run, found in seen.items()}
    first = next(iter(maps.values()))
    if too_high := [channel for channel in channels if channel >= len(first)]:
        raise UsageError(f"--channel {too_high[0]}: {name} has channels 0 to {len(first) - 1}")
    alike = {run: likeness(found, first) for run, found in maps.items()}
    shown = list(channels) or liveliest(first, num_channels)
    num_frames = len(next(iter(seen.values())).clip)
    times = spread_times(first.shape[1])
    return Layer(
        name=name,
        shape=first.shape,
        frames=[int(time) * num_frames // first.shape[1] for time in times],
        alike=alike,
        rows={channel: [_row(run, maps[run], alike[run], channel, match=match) for run in maps] for channel in shown},
    )


def _row(run: str, maps: NDArray[Any], alike: Likeness | None, channel: int, *, match: bool) -> MapRow:
    number = int(alike.match[channel]) if match and alike else min(channel, len(maps) - 1)
    return MapRow(run, number, picture_of_map(maps[number][spread_times(maps.shape[1])]))


def _result(video: str, gop: int, layers: Sequence[Layer]) -> dict[str, Any]:
    return {
        "video": video,
        "gop": gop,
        "layers": {
            layer.name: {
                run: alike and {"same_channel": alike.same, "best_channel": alike.best}
                for run, alike in layer.alike.items()
            }
            for layer in layers
        },
    }
