"""Draws docs/gop.jpg, the picture of the README: `python docs/gop_picture.py STORE VIDEO GOP docs/gop.jpg`."""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from mfcd_core.store import Store
from mfcd_train.pictures import build_strip

MARGIN_PX = 4


def draw(store: str, video_id: str, gop_index: int) -> Image.Image:
    """Rows: frames, accumulated residuals, augmented residuals (shown at twice the brightness), accumulated motion."""
    strip = build_strip(Store(store).read_gop(video_id, gop_index))
    blank = np.full_like(strip.rgb[:1], 255)
    augmented = np.concatenate([strip.augmented[:1], (strip.augmented[1:].astype(int) * 2).clip(0, 255)]).astype(
        np.uint8
    )
    rows = [strip.rgb, np.concatenate([blank, strip.residual]), augmented, np.concatenate([blank, strip.motion])]
    pad = ((0, 0), (0, MARGIN_PX), (0, MARGIN_PX), (0, 0))
    padded = [np.pad(row, pad, constant_values=255) for row in rows]
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in padded], axis=0))


if __name__ == "__main__":
    _, store_path, video, gop, out = sys.argv
    draw(store_path, video, int(gop)).save(out, quality=88)
