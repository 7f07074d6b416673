"""`mfcd-predict`: from video files straight to labels, in memory."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from mfcd_core.console import main_of, print_json_line, progress, say, warn
from mfcd_core.errors import DeadlineError, KilledError, UsageError, VideoError
from mfcd_core.tree import iter_video_paths
from mfcd_train.build import build_fabric, load_model
from mfcd_train.predictor import PROTOCOL, Predictor, spread_gops
from mfcd_train.runlog import open_run
from mfcd_train.timeline import Timeline, write_timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from mfcd_core.console import Advance
    from mfcd_prep.video_gops import VideoGops

MAX_PANELS = 40
ROUNDING = 1e-6
VIDEO_FAULTS = (VideoError, DeadlineError, KilledError)


@dataclass(frozen=True)
class Prediction:
    """What the network makes of a video.

    scores: (classes,) mean over the clips. gop_scores: (GOPs, classes), or (0, classes) where they were not asked for.
    """

    scores: NDArray[np.float32]
    gop_scores: NDArray[np.float32]
    num_gops: int
    gop_seconds: float
    damage: str | None


@click.command("mfcd-predict", context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="VIDEO...")
@click.option("--clips", type=click.IntRange(min=1), default=15, help="Clips a video, evenly spread, centre crop.")
@click.option("--top", type=click.IntRange(min=1), default=5, help="Labels a video.")
@click.option(
    "--timeline",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PNG file: score every GOP, draw them over time.",
)
@click.option(
    "--timeout", "timeout_seconds", type=click.FloatRange(min=0, min_open=True), help="Seconds that one video may take."
)
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a video on stdout, as soon as it is known.")
def cli(  # noqa: PLR0913 - one argument an option
    run: Path,
    videos: tuple[Path, ...],
    *,
    clips: int,
    top: int,
    timeline: Path | None,
    timeout_seconds: float | None,
    device: str,
    as_json: bool,
) -> int:
    """Labels with scores for any VIDEO, or all videos of a folder, by the network of RUN.

    Each is encoded and extracted as the store was that RUN was trained on, in memory: nothing is left on disk. The
    scores are those of `mfcd-eval RUN STORE --protocol spread`. A video that cannot be used is one line; the exit
    status is 1 then.
    """
    opened_gops = _door()
    log, paths = open_run(run), find_videos(videos)
    if timeline is not None and len(paths) > MAX_PANELS:
        raise UsageError(f"--timeline of {len(paths)} videos: expected up to {MAX_PANELS}; give fewer at a time")
    fabric = build_fabric(log.recipe, device)
    predictor = Predictor(fabric, load_model(log, fabric), log.recipe, log.settings)
    timelines, num_failed = [], 0
    with progress("predict", len(paths), "videos") as advance:
        for path in paths:
            try:
                with _one_video(advance) as share, opened_gops(path, log.settings, timeout_seconds) as gops:
                    found = predict(predictor, gops, clips, share, every_gop=timeline is not None)
            except VIDEO_FAULTS as error:
                num_failed += 1
                _tell_failure(path, error, as_json=as_json)
                continue
            _tell(path, found, log.classes, clips, top, as_json=as_json)
            timelines.append(Timeline(str(path), found.gop_scores, found.gop_seconds))
    if timeline is not None and timelines:
        write_timeline(timeline, timelines, log.classes)
        say(f"timeline: {timeline.resolve()}")
    return 1 if num_failed else 0


def _door() -> Callable[..., AbstractContextManager[VideoGops]]:
    try:
        from mfcd_prep.video_gops import opened_gops  # noqa: PLC0415 - decoders are no part of mfcd[train]
    except ModuleNotFoundError as error:
        raise UsageError(f"mfcd-predict reads videos, which needs {error.name}: pip install 'mfcd[prep]'") from None
    return opened_gops


def find_videos(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and the videos in folders that are, by name. Raises UsageError where there is none."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise UsageError(f"{path}: no such file; expected videos, or folders of videos")
            found.append(path)
            continue
        ignored: Counter[str] = Counter()
        within = sorted(iter_video_paths(Path(os.path.realpath(path)), ignored))
        if not within:
            raise UsageError(f"{path} has no videos (left out: {dict(ignored) or 'nothing'})")
        found += [path / name for name in within]
    return found


@contextmanager
def _one_video(advance: Advance) -> Iterator[Callable[[float], None]]:
    """Yield what takes shares of one video's work; whatever becomes of it, they sum up to one."""
    left = 1.0

    def take(share: float) -> None:
        nonlocal left
        advance(share)
        left -= share

    try:
        yield take
    finally:
        if left > ROUNDING:
            advance(left)


def predict(
    predictor: Predictor, gops: VideoGops, clips: int, take: Callable[[float], object], *, every_gop: bool
) -> Prediction:
    """Scores of one video; each GOP is fed once, however many clips are made of it. Raises what reading it raises."""
    drawn = spread_gops(gops.num_gops, clips)
    wanted = np.arange(gops.num_gops) if every_gop else np.unique(drawn)
    scores = predictor.score(gops.iter_gops(set(wanted.tolist())), lambda num: take(num / len(wanted)))
    return Prediction(
        scores=scores[np.searchsorted(wanted, drawn)].mean(0),
        gop_scores=scores[: len(wanted) if every_gop else 0],
        num_gops=gops.num_gops,
        gop_seconds=gops.gop_seconds,
        damage=gops.damage,
    )


def _tell(path: Path, found: Prediction, labels: list[str], clips: int, top: int, *, as_json: bool) -> None:
    best = [(labels[row], float(found.scores[row])) for row in np.argsort(-found.scores, kind="stable")[:top]]
    if found.damage:
        warn(f"{path} is damaged: {found.damage}")
    say(f"{path}: " + ", ".join(f"{label} {score:.1%}" for label, score in best))
    if as_json:
        print_json_line(
            {
                "video": str(path),
                "predictions": [{"label": label, "score": score} for label, score in best],
                "num_gops": found.num_gops,
                "clips": clips,
                "protocol": PROTOCOL,
                "damage": found.damage,
                **_timeline_of(found, labels),
            }
        )


def _timeline_of(found: Prediction, labels: list[str]) -> dict[str, Any]:
    """The best label of each GOP, where they were asked for."""
    best = zip(found.gop_scores.argmax(1).tolist(), found.gop_scores.max(1).tolist(), strict=True)
    gops = [
        {"seconds": round(number * found.gop_seconds, 3), "label": labels[row], "score": score}
        for number, (row, score) in enumerate(best)
    ]
    return {"gops": gops} if gops else {}


def _tell_failure(path: Path, error: Exception, *, as_json: bool) -> None:
    reason = " ".join(str(error).split())
    say(f"error: {path}: {reason}")
    if as_json:
        print_json_line({"video": str(path), "error": reason})


main = main_of(cli)
