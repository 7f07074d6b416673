"""Clip formats: what the network is fed in the place of each frame (Eq. 3, 4, 9, 10; DESIGN 2).

The formulas work on NumPy arrays and torch tensors alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Array: TypeAlias = Any
"""A NumPy array or a torch tensor."""

RGB_MEAN = (124.0, 117.0, 104.0)
RGB_SCALE = 0.0167
MOTION_SCALE = 0.0625  # accumulated motion of 16 pixels is fed as 1


@dataclass(frozen=True)
class ClipFormat:
    """How a clip is built: what it takes from a GOP, its channels, and the formula of its slots.

    slots: from U_0 in RGB levels, the P-frames (R_t, U_t or D_t by `source`; one more axis T of gop_size - 1), and the
    residual offset, to the first slot and the others, before normalisation. Of the source "iframe" there are no others.
    """

    source: str
    num_channels: int
    slots: Callable[[Array, Array, float], tuple[Array, Array]]

    @property
    def needs_motion(self) -> bool:
        """Whether the accumulated motion has to be read: for rebuilt frames (Eq. 2) and for motion itself."""
        return self.source in {"frames", "motion"}

    @property
    def needs_residual(self) -> bool:
        """Whether the accumulated residual has to be read, as it is for all but the I-frame and motion alone."""
        return self.source in {"residual", "frames"}

    def num_slots(self, gop_size: int) -> int:
        """Slots of a clip that is made of a GOP."""
        return 1 if self.source == "iframe" else gop_size


def _iframe(iframe: Array, _frames: Array, _offset: float) -> tuple[Array, Array]:
    """[U_0]: the I-frame alone, as CoViAR's first network sees it."""
    return iframe, iframe[..., :0, :, :]


def _rgb(iframe: Array, frames: Array, _offset: float) -> tuple[Array, Array]:
    """[U_0, U_1 .. U_11]: the teacher's clip (Eq. 1)."""
    return iframe, frames


def _augmented(iframe: Array, residual: Array, offset: float) -> tuple[Array, Array]:
    """[U_0, (R_t + U_0) / 2]: the full method (Eq. 3, 4)."""
    return iframe, residual / 2 + (iframe + offset) / 2  # what is as large as the clip is touched twice


def _residual(iframe: Array, residual: Array, offset: float) -> tuple[Array, Array]:
    """[U_0, R_t] (Eq. 9)."""
    return iframe, residual + offset


def _residual_only(_iframe: Array, residual: Array, offset: float) -> tuple[Array, Array]:
    """[R_1, R_1, R_2 .. R_11] (Eq. 10)."""
    return residual[..., :1, :, :] + offset, residual + offset


def _motion(_iframe: Array, motion: Array, _offset: float) -> tuple[Array, Array]:
    """[0, D_t]: accumulated motion, for users of CoViAR; the I-frame has none."""
    return motion[..., :1, :, :] * 0, motion


CLIP_FORMATS: dict[str, ClipFormat] = {
    "rgb": ClipFormat("frames", 3, _rgb),
    "augmented": ClipFormat("residual", 3, _augmented),
    "residual": ClipFormat("residual", 3, _residual),
    "residual-only": ClipFormat("residual", 3, _residual_only),
    "motion": ClipFormat("motion", 2, _motion),
    "iframe": ClipFormat("iframe", 3, _iframe),
}
