"""The confusion matrix as a picture."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MAX_COUNTED, MAX_NAMED = 20, 120
"""Classes up to which cells have their number of videos, and rows and columns their name."""
MAX_NAME = 28
DPI = 110


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> bytes:
    """PNG of videos by class (rows) and by what they were taken for (columns).

    Colour is the share of the row; small ones stand out more than they would by themselves.
    """
    side = 2.6 + min(0.42 * len(classes), 5 + 0.14 * len(classes), 18)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    file = BytesIO()
    with mpl.rc_context({"font.size": 9.0}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in its place
        figure = Figure(figsize=(side + 0.6, side), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        figure.colorbar(image, ax=axes, shrink=0.7, aspect=35, label="share of the videos of a class", format="{x:.0%}")
        _label(axes, classes)
        if len(classes) <= MAX_COUNTED:
            _count(axes, confusion, shares)
        figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": "mfcd"})
    return file.getvalue()


def _label(axes: Axes, classes: Sequence[str]) -> None:
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.spines[:].set_visible(False)
    if len(classes) > MAX_NAMED:
        return
    size = 9.0 if len(classes) <= MAX_COUNTED else 6.0
    places, names = range(len(classes)), [_shown(name) for name in classes]
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 6 else 0, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.tick_params(length=0)


def _count(axes: Axes, confusion: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for row, column in zip(*confusion.nonzero(), strict=True):
        colour = "white" if shares[row, column] > 0.3 else "black"
        axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour)


def _shown(name: str) -> str:
    """A name that cannot be taken for a formula, in one short line."""
    text = "".join(character if character.isprintable() else "?" for character in name)
    return (text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}").replace("$", r"\$")
