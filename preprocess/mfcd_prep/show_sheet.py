"""One picture of a GOP: rows of a few frames with titles, figures and the key to the colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mfcd_core.pictures import colour_wheel
from mfcd_prep.show import draw, figures_of, mean_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mfcd_prep.show import FrameFigures, Pictures, ShownGop

NUM_COLUMNS = 6
GAP_PX, MARGIN_PX, LINE_PX = 6, 16, 24
PAPER, INK, SOFT, EDGE = (255, 255, 255), (27, 30, 35), (92, 100, 112), (205, 210, 217)
TITLES = {
    "rgb": "Frames U_t: what a network on RGB is fed",
    "step": "Motion from frame to frame d_t: arrows end where the content is now; black: its source lies outside",
    "step_residual": "Residual from frame to frame r_t = U_t(p) - U_t-1(p - d_t(p)); mid-grey is zero",
    "motion": "Accumulated motion D_t: where a pixel came from since the I-frame",
    "residual": "Accumulated residual R_t = U_t(p) - U_0(p - D_t(p)); mid-grey is zero",
    "augmented": "Augmented residual (R_t + U_0) / 2, at twice its brightness: what the student is fed",
}


def draw_sheet(shown: ShownGop) -> Image.Image:
    """The picture: up to six frames, evenly spread over the real ones, the I-frame and the last among them."""
    frames = spread(max(shown.gop.real_frames, 2))
    pictures = draw(shown, frames)
    height, width = pictures.rows["rgb"][0].shape[:2]
    row_px, head_px = LINE_PX + height + GAP_PX, 2 * MARGIN_PX + 3 * LINE_PX
    size = (2 * MARGIN_PX + len(frames) * (width + GAP_PX), head_px + len(TITLES) * row_px + MARGIN_PX)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, text in enumerate([title_of(shown), *summary_lines(figures_of(shown))]):
        pen.text((MARGIN_PX, MARGIN_PX + line * LINE_PX), text, SOFT if line else INK, _font())
    for number, name in enumerate(TITLES):
        top = head_px + number * row_px
        pen.text((MARGIN_PX, top), _row_title(name, shown, pictures), INK, _font())
        _draw_row(sheet, (top + LINE_PX, width, height), name, pictures)
    for column, t in enumerate(frames):
        place = (MARGIN_PX + column * (width + GAP_PX) + 6, head_px + LINE_PX + 4)
        pen.text(place, f"t = {t}, {shown.picture_types[t]}", PAPER, _font(), stroke_width=2, stroke_fill=INK)
    return sheet


def _row_title(name: str, shown: ShownGop, pictures: Pictures) -> str:
    title, scale = TITLES[name], pictures.arrow_scale.get(name, 1)
    if name == "step" and shown.steps.solved is not None:
        title += f"; solved for from D_t, a guess at {1 - shown.steps.solved.mean():.1%}"
    return title + (f"; arrows {scale:g} x" if scale > 1 else "")


def _draw_row(sheet: Image.Image, box: tuple[int, int, int], name: str, pictures: Pictures) -> None:
    top, width, height = box
    tiles, columns = pictures.rows[name], len(pictures.rows["rgb"])
    first = columns - len(tiles)
    if first:
        _draw_key(sheet, (MARGIN_PX, top, width, height), pictures.full_px.get(name))
    for column, tile in enumerate(tiles, start=first):
        left = MARGIN_PX + column * (width + GAP_PX)
        sheet.paste(Image.fromarray(tile), (left, top))
        ImageDraw.Draw(sheet).rectangle((left, top, left + width - 1, top + height - 1), outline=EDGE)


def spread(num_frames: int) -> list[int]:
    """Numbers of up to six frames, evenly spread, the first and the last among them."""
    return sorted(set(np.linspace(0, num_frames - 1, NUM_COLUMNS).round().astype(int).tolist()))


def title_of(shown: ShownGop) -> str:
    """Which GOP it is, and its size."""
    height, width = shown.gop.motion.shape[2:]
    start = shown.gop_index * shown.gop.gop_size
    frames = f"frames {start} to {start + shown.gop.real_frames - 1}"
    return f"{shown.video_id}: GOP {shown.gop_index} of 0 to {shown.num_gops - 1}, {frames}, {width}x{height}"


def summary_lines(figures: Sequence[FrameFigures]) -> list[str]:
    """Two lines: what tracing explains, and how much moved."""
    mean = mean_figures(figures)
    explained = f", {1 - mean.residual / mean.change:.0%} explained by motion" if mean.change > mean.residual else ""
    return [
        f"mean |R_t| {mean.residual:.2f} against mean |U_t - U_0| {mean.change:.2f} levels{explained}",
        f"{mean.moved:.1%} of pixels moved, all by {mean.mean_px:.2f} px on average, {mean.max_px:.1f} px at most",
    ]


def _draw_key(sheet: Image.Image, box: tuple[int, int, int, int], full_px: float | None) -> None:
    """In the place of the I-frame: the wheel of motion, or that there is nothing."""
    left, top, width, height = box
    pen = ImageDraw.Draw(sheet)
    centre = (left + width // 2, top + height // 2)
    if full_px is None:
        pen.text(centre, "I-frame: none", SOFT, _font(), anchor="mm")
        return
    side = min(width, height) - 2 * LINE_PX
    wheel = Image.fromarray(colour_wheel(side))
    corner = (centre[0] - side // 2, centre[1] - side // 2 - LINE_PX // 2)
    sheet.paste(wheel, corner, wheel)
    pen.ellipse((*corner, corner[0] + side, corner[1] + side), outline=SOFT)
    pen.text((centre[0], corner[1] + side + 4), f"rim: {full_px:.1f} px", SOFT, _font(), anchor="ma")


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(15)
