"""One GOP in pictures and figures, pure: rows of tiles, arrows, and what each frame comes to (Eq. 2, 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.pictures import (
    around_mid_grey,
    full_colour_px,
    lengths,
    motion_colours,
    step_motion,
    step_residuals,
    to_levels,
)
from mfcd_core.planes import residual_to_rgb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from mfcd_core.gop import Gop

QUARTER = 4
MIN_TILE_PX, MAX_TILE_PX = 256, 480  # of the larger side: small pictures get larger pixels, large ones are averaged
ARROW_EVERY_PX = 16  # one a macroblock
MAX_ARROWS_A_SIDE = 24
MIN_ARROW_PX = 0.5
ARROW = (20, 20, 30)
OUTSIDE = (25, 25, 25)


@dataclass(frozen=True)
class Steps:
    """Motion d_t from each frame to the next.

    displacement: (T, 2, H, W) float32 pixels, order (dy, dx). outside: (T, H, W), the source p - d_t lies outside the
    picture. solved: (T, H, W) where d_t agrees with D_t, or None where d_t is the codec's own.
    """

    displacement: NDArray[np.float32]
    outside: NDArray[np.bool_]
    solved: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ShownGop:
    """A GOP to be drawn, and where it comes from.

    picture_types: one letter a frame. num_bytes: per data set of a store, stored and before compression.
    facts: what else there is to say of its source, by name.
    """

    video_id: str
    gop_index: int
    num_gops: int
    gop: Gop
    steps: Steps
    picture_types: str
    facts: Mapping[str, str]
    num_bytes: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class FrameFigures:
    """Figures of frame t.

    change, step_residual, residual: means of |U_t - U_0|, |r_t|, |R_t|, RGB levels. moved: share of pixels where D_t is
    not zero. mean_px, max_px: length of D_t. outside: share of pixels whose source in the frame before lies outside.
    """

    t: int
    picture_type: str
    is_repeat: bool
    change: float = 0.0
    step_residual: float = 0.0
    residual: float = 0.0
    moved: float = 0.0
    mean_px: float = 0.0
    max_px: float = 0.0
    outside: float = 0.0


@dataclass(frozen=True)
class Pictures:
    """Rows of tiles (H, W, 3) uint8 by name, one a frame; rows without one of the I-frame are one shorter.

    full_px: length of motion with full colour, arrow_scale: how much longer than the motion its arrows are; by row.
    """

    rows: Mapping[str, Sequence[NDArray[np.uint8]]]
    full_px: Mapping[str, float]
    arrow_scale: Mapping[str, float]


def steps_of_blocks(blocks: Sequence[NDArray[np.int32]], size: tuple[int, int]) -> Steps:
    """The codec's own steps, from the blocks of each P-frame (see `blocks_from_vectors`); `size` is (H, W)."""
    displacement = np.zeros((len(blocks), 2, *size), np.float32)
    for dense, its_blocks in zip(displacement, blocks, strict=True):
        for top, left, height, width, dy, dx in its_blocks.tolist():
            rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
            dense[:, rows, columns] = np.array([[[dy]], [[dx]]]) / QUARTER
    return Steps(displacement, _lies_outside(displacement))


def steps_of_motion(motion: NDArray[np.int16]) -> Steps:
    """Steps solved for from accumulated motion; its sources were clamped, so those on the edge count as outside."""
    displacement, solved = step_motion(motion)
    on_edge = _lies_outside(displacement + np.sign(displacement))
    return Steps(displacement.astype(np.float32), on_edge, solved)


def _lies_outside(displacement: NDArray[Any]) -> NDArray[np.bool_]:
    sides = displacement.shape[2:]
    sources = np.indices(sides) - displacement
    edges = np.array(sides).reshape(2, 1, 1) - 1
    outside: NDArray[np.bool_] = ((sources < 0) | (sources > edges)).any(axis=1)
    return outside


def figures_of(shown: ShownGop) -> list[FrameFigures]:
    """Figures of every frame, the I-frame first; means of colours are over the three channels."""
    gop, steps = shown.gop, shown.steps
    frames = gop.rebuild_frames()
    change = frames[1:].astype(np.int16) - frames[0]
    residual, step_residual = residual_to_rgb(gop.residual), step_residuals(frames, steps.displacement)
    moved_px = lengths(gop.motion)
    figures = [FrameFigures(0, shown.picture_types[0], is_repeat=False)]
    figures += [
        FrameFigures(
            t=t,
            picture_type=shown.picture_types[t],
            is_repeat=t >= gop.real_frames,
            change=float(np.abs(change[t - 1]).mean()),
            step_residual=float(np.abs(step_residual[t - 1]).mean()),
            residual=float(np.abs(residual[t - 1]).mean()),
            moved=float((moved_px[t - 1] > 0).mean()),
            mean_px=float(moved_px[t - 1].mean()),
            max_px=float(moved_px[t - 1].max()),
            outside=float(steps.outside[t - 1].mean()),
        )
        for t in range(1, gop.gop_size)
    ]
    return figures


def mean_figures(figures: Sequence[FrameFigures]) -> FrameFigures:
    """Means over the P-frames that are no repeats (the largest length over all of them); t counts them."""
    real = [frame for frame in figures[1:] if not frame.is_repeat]
    names = ("change", "step_residual", "residual", "moved", "mean_px", "outside")
    means = {name: float(np.mean([getattr(frame, name) for frame in real] or [0.0])) for name in names}
    return FrameFigures(len(real), "P", is_repeat=False, max_px=max((f.max_px for f in real), default=0.0), **means)


def draw(shown: ShownGop, frames: Sequence[int]) -> Pictures:
    """Tiles of the given frames, the I-frame (0) first: pictures, steps, residuals, motion, augmented residuals.

    Residuals are around mid-grey; augmented residuals are at twice their brightness, as Eq. 3 halves them.
    """
    gop, p_frames = shown.gop, np.array(frames[1:], np.intp) - 1
    rgb, step = gop.rebuild_frames(), shown.steps.displacement
    residual = residual_to_rgb(gop.residual)[p_frames]
    _, augmented = CLIP_FORMATS["augmented"].slots(rgb[0].astype(np.float32), residual, 0.0)
    moving = {"step": step[p_frames], "motion": gop.motion[p_frames].astype(np.float32)}
    full_px = {name: full_colour_px(motion) if len(motion) else 1.0 for name, motion in moving.items()}
    arrow_scale = {name: _arrow_scale(full) for name, full in full_px.items()}
    marked = {"step": shown.steps.outside[p_frames], "motion": np.zeros((len(p_frames), *step.shape[2:]), np.bool_)}
    drawn = {
        name: _motion_tiles(motion, full_px[name], arrow_scale[name], marked[name]) for name, motion in moving.items()
    }
    rows: dict[str, Iterable[NDArray[np.uint8]]] = {
        "rgb": rgb[list(frames)],
        "step": drawn["step"],
        "step_residual": around_mid_grey(step_residuals(rgb, step)[p_frames]),
        "motion": drawn["motion"],
        "residual": around_mid_grey(residual),
        "augmented": np.concatenate([rgb[:1], to_levels(augmented * 2)]),
    }
    return Pictures({name: [fitted(tile) for tile in tiles] for name, tiles in rows.items()}, full_px, arrow_scale)


def _arrow_scale(full_px: float) -> float:
    """How much longer than the motion its arrows are drawn: long motion covers a block, and no arrow is shortened."""
    return float(max(1, int(ARROW_EVERY_PX / full_px)))


def fitted(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) at a size to look at: pixels repeated by a whole factor, or averaged."""
    height, width = tile.shape[:2]
    side = max(height, width)
    if side < MIN_TILE_PX:
        factor = -(-MIN_TILE_PX // side)
        return tile.repeat(factor, axis=0).repeat(factor, axis=1)
    if side <= MAX_TILE_PX:
        return tile
    size = (max(width * MAX_TILE_PX // side, 1), max(height * MAX_TILE_PX // side, 1))
    return np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX))


def _motion_tiles(
    motion: NDArray[np.float32], full_px: float, arrow_scale: float, outside: NDArray[np.bool_]
) -> list[NDArray[np.uint8]]:
    colours = motion_colours(motion, full_px)
    colours[outside] = OUTSIDE
    return [_with_arrows(fitted(tile), d, arrow_scale) for tile, d in zip(colours, motion, strict=True)]


def _with_arrows(tile: NDArray[np.uint8], motion: NDArray[np.float32], arrow_scale: float) -> NDArray[np.uint8]:
    """Arrows that end where the content is now, one a block (fewer on large pictures), smoothed.

    `motion` is (2, H, W), in pixels of the video; `tile` may be of another size.
    """
    height, width = motion.shape[1:]
    every = ARROW_EVERY_PX * -(-max(height, width) // (ARROW_EVERY_PX * MAX_ARROWS_A_SIDE))
    zoom = 2 * tile.shape[0] / height
    picture = Image.fromarray(tile).resize((tile.shape[1] * 2, tile.shape[0] * 2), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for y in range(every // 2, height, every):
        for x in range(every // 2, width, every):
            d = motion[:, y, x]
            if np.hypot(*d) >= MIN_ARROW_PX:
                _draw_arrow(pen, np.array([y, x]) * zoom, d * arrow_scale * zoom)
    return np.asarray(picture.resize((tile.shape[1], tile.shape[0]), Image.Resampling.BOX))


def _draw_arrow(pen: ImageDraw.ImageDraw, head: NDArray[Any], along: NDArray[Any]) -> None:
    length = float(np.hypot(*along))
    direction, across = along / length, np.array([-along[1], along[0]]) / length
    barb = min(length, 9.0)
    neck = head - direction * barb
    points = (head - along, neck, head, neck + across * barb * 0.45, neck - across * barb * 0.45)
    tail, neck_end, tip, left, right = (tuple(float(v) for v in point[::-1]) for point in points)
    pen.line([tail, neck_end], fill=ARROW, width=2)
    pen.polygon([tip, left, right], fill=ARROW)
