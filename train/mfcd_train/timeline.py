"""The picture of what a network sees over time: scores of its best classes, GOP by GOP, one panel a video."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mfcd_core.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

NUM_CLASSES = 5
WIDTH_INCHES, ROW_INCHES, PANEL_INCHES, DPI = 11.0, 0.28, 1.1, 110
MAX_LABEL, MAX_NAME = 30, 100


@dataclass(frozen=True)
class Timeline:
    """Scores of every GOP of one video, (GOPs, classes), and what one GOP lasts, seconds."""

    name: str
    scores: NDArray[np.float32]
    gop_seconds: float

    @property
    def best_classes(self) -> NDArray[np.intp]:
        """Up to five classes, those first that are ahead in the most GOPs, then by their mean."""
        ahead = np.bincount(self.scores.argmax(1), minlength=self.scores.shape[1])
        order: NDArray[np.intp] = np.lexsort((-self.scores.mean(0), -ahead))[:NUM_CLASSES]
        return order


def write_timeline(path: Path, timelines: Sequence[Timeline], labels: Sequence[str]) -> None:
    """Draw one panel a video into a PNG file: time to the right, a row a class, dark where its score is high."""
    heights = [PANEL_INCHES + ROW_INCHES * len(timeline.best_classes) for timeline in timelines]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
    panels = figure.subplots(len(timelines), squeeze=False, height_ratios=heights)[:, 0]
    for panel, timeline in zip(panels, timelines, strict=True):
        image = _draw(panel, timeline, labels)
    figure.colorbar(image, ax=list(panels), label="score", fraction=0.03)
    for panel in panels:
        for label in panel.get_yticklabels():
            label.set_parse_math(False)
    with replacing(path) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # drawn as boxes
        figure.savefig(part, format="png", dpi=DPI, metadata={"Software": None})


def _draw(panel: Axes, timeline: Timeline, labels: Sequence[str]) -> AxesImage:
    rows = timeline.best_classes
    end = len(timeline.scores) * timeline.gop_seconds
    tall = np.repeat(timeline.scores[:, rows].T, round(ROW_INCHES * DPI), 0)  # smoothing over time keeps rows apart
    image = panel.imshow(
        tall,
        extent=(0, end, len(rows) - 0.5, -0.5),
        vmin=0,
        vmax=1,
        aspect="auto",
        cmap="Blues",
    )
    panel.set_yticks(range(len(rows)), [_plain(labels[row])[:MAX_LABEL] for row in rows])
    panel.set_title(_plain(timeline.name)[-MAX_NAME:], loc="left", fontsize=9, parse_math=False)
    panel.set_xlabel("seconds")
    return image


def _plain(text: str) -> str:
    """On one line, whatever it holds."""
    return "".join(character if character.isprintable() else "?" for character in text)
