"""Pictures of the report as data URIs: one GOP as rows of tiles (Eq. 2, 3), and curves over epochs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.pictures import around_mid_grey, full_colour_px, motion_colours, step_motion, step_residuals, to_levels
from mfcd_core.planes import planes_to_rgb, residual_to_rgb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from mfcd_core.gop import Gop

AXES_COLOUR = "#808080"  # legible on white and on black
MAX_TILE_PX, MAX_DOTS = 384, 60
STYLE: dict[Any, Any] = {"svg.hashsalt": "mfcd", "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True)
class Strip:
    """One GOP in pictures, each (H, W, 3) uint8, a row of them for the shown `frames`; the first frame is the I-frame.

    frames: frame numbers t. rgb: U_t (Eq. 2). augmented: U_0, then (R_t + offset + U_0) / 2 (Eq. 3, 4).
    step_residual, residual, motion: of the P-frames alone: r_t and R_t around mid-grey, D_t as colour.
    full_colour_px: length of motion with full colour. solved_share: pixels whose step is solved (`step_motion`).
    mean_levels: mean of |U_t - U_0|, |r_t| and |R_t| over the shown P-frames, by the names of the rows.
    """

    frames: list[int]
    rgb: NDArray[np.uint8]
    step_residual: NDArray[np.uint8]
    residual: NDArray[np.uint8]
    augmented: NDArray[np.uint8]
    motion: NDArray[np.uint8]
    full_colour_px: float
    solved_share: float
    mean_levels: dict[str, float]


def build_strip(gop: Gop, num_columns: int = 6, residual_offset: float = 0.0) -> Strip:
    """Pictures of a GOP at `num_columns` of its real frames, evenly spread, the first and the last among them."""
    frames = _spread(max(gop.real_frames, 2), num_columns)
    shown = frames[1:] - 1
    rgb = gop.rebuild_frames()
    residual = residual_to_rgb(gop.residual)[shown]
    step, solved = step_motion(gop.motion)
    step_residual = step_residuals(rgb, step)
    iframe, augmented = CLIP_FORMATS["augmented"].slots(rgb[0].astype(np.float32), residual, residual_offset)
    full_px = full_colour_px(gop.motion[shown])
    change = rgb[frames[1:]].astype(np.float32) - rgb[0]
    return Strip(
        frames=frames.tolist(),
        rgb=rgb[frames],
        step_residual=around_mid_grey(step_residual[shown]),
        residual=around_mid_grey(residual),
        augmented=to_levels(np.concatenate([iframe[None], augmented])),
        motion=motion_colours(gop.motion[shown], full_px),
        full_colour_px=full_px,
        solved_share=float(solved[shown].mean()),
        mean_levels={
            "change": float(np.abs(change).mean()),
            "step_residual": float(np.abs(step_residual[shown]).mean()),
            "residual": float(np.abs(residual).mean()),
        },
    )


def explained_levels(gop: Gop) -> float:
    """How much of the change since the I-frame tracing explains: mean |U_t - U_0| less mean |R_t|, RGB levels.

    Of the last real frame; below 0 for a GOP of a single real frame.
    """
    if gop.real_frames < 2:
        return -1.0
    last = gop.real_frames - 2
    residual = residual_to_rgb({name: plane[last] for name, plane in gop.residual.items()})
    frames = planes_to_rgb({name: plane[[0, last + 1]] for name, plane in gop.rebuild_planes().items()})
    change = frames[1].astype(np.float32) - frames[0]
    return float(np.abs(change).mean() - np.abs(residual).mean())


def _spread(num_frames: int, num_columns: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, num_frames - 1, num_columns).round().astype(np.int64))


def png_uri(picture: NDArray[np.uint8], max_px: int = MAX_TILE_PX) -> str:
    """A picture (H, W, 3 or 4) as a PNG; one with a side above `max_px` is averaged down by a whole factor."""
    factor = -(-max(picture.shape[:2]) // max_px)
    file = BytesIO()
    imsave(file, _averaged(picture, factor), format="png", metadata={"Software": "mfcd"})
    return data_uri("image/png", file.getvalue())


def _averaged(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    if factor == 1:
        return picture
    height, width = (side // factor for side in picture.shape[:2])
    blocks = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    return to_levels(blocks.mean(axis=(1, 3)))


@dataclass(frozen=True)
class Curve:
    """Values of one metric of one run over its epochs, and how the line looks."""

    epochs: NDArray[np.float64]
    values: NDArray[np.float64]
    colour: str
    line_style: str


def curves_uri(curves: Sequence[Curve], *, smoothed: bool, share: bool, chance: float | None = None) -> str:
    """Curves over epochs as an SVG without background and without names.

    smoothed: a thin line as logged below a thick one of moving means; else every value has a dot, up to `MAX_DOTS`.
    share: values are shares, shown as percent from 0 to 100. chance: a dotted level.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            _draw(axes, curve, smoothed=smoothed)
        _dress(axes, share=share, chance=chance)
        return svg_uri(figure)


def svg_uri(figure: Figure) -> str:
    """A figure as an SVG without background."""
    file = BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return data_uri("image/svg+xml", file.getvalue())


def _draw(axes: Axes, curve: Curve, *, smoothed: bool) -> None:
    look: dict[str, Any] = {"color": curve.colour, "linestyle": curve.line_style}
    if not smoothed:
        marker = "o" if len(curve.values) <= MAX_DOTS else None
        axes.plot(curve.epochs, curve.values, marker=marker, markersize=4, linewidth=1.8, **look)
        return
    axes.plot(curve.epochs, curve.values, linewidth=0.8, alpha=0.4, **look)
    marker = "o" if len(curve.values) == 1 else None  # a line needs two
    mean = moving_mean(curve.values, smoothing_width(curve.values))
    axes.plot(curve.epochs, mean, marker=marker, markersize=4, linewidth=2, **look)


def _dress(axes: Axes, *, share: bool, chance: float | None) -> None:
    axes.set_xlabel("epoch", color=AXES_COLOUR)
    axes.update_datalim([(0, 0)])  # or else the highest value is cut where all are close to it
    axes.autoscale_view()
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02 if share else None)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if share:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if chance is not None:
        axes.axhline(chance, color=AXES_COLOUR, linestyle="dotted", linewidth=1.2)
        axes.annotate("chance", (1, chance), (0, 2), ("axes fraction", "data"), "offset points", None, ha="right")
    dress_axes(axes, "y")
    for text in axes.texts:
        text.set_color(AXES_COLOUR)


def dress_axes(axes: Axes, grid: Literal["x", "y"]) -> None:
    """Colours that are legible on white and on black, and a grid along one axis."""
    axes.tick_params(colors=AXES_COLOUR)
    axes.grid(axis=grid, color=AXES_COLOUR, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color(AXES_COLOUR)


def smoothing_width(values: NDArray[np.float64]) -> int:
    """Values that a moving mean of a curve covers: about a tenth, odd."""
    return len(values) // 20 * 2 + 1


def moving_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean of the `width` values around each; at the ends of those that there are."""
    ones = np.ones(width)
    mean: NDArray[np.float64] = np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same")
    return mean


def data_uri(media_type: str, content: bytes) -> str:
    """The bytes of a file as a source for pages that need no other file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
