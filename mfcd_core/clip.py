"""Clip formats: what the network is fed in the place of each frame (Eq. 3, 4, 9, 10; DESIGN 2).

The formulas work on NumPy arrays and torch tensors alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""A NumPy array or a torch tensor."""

RGB_MEAN = (124.0, 117.0, 104.0)
RGB_SCALE = 0.0167
MOTION_SCALE = 0.0625  # accumulated motion of 16 pixels is fed as 1


@dataclass(frozen=True)
class ClipFormat:
    """How a clip is built: the first slot, and behind it (1 - a) (S_t + offset) + a U_0 for every P-frame.

    source: what S_t is: the "residual" R_t, the "frames" U_t, or the "motion" D_t, which have no offset; a clip of the
    "iframe" has no slots behind the first.
    first: what stands in the first slot: the "iframe" U_0, the "second" slot once more, or "zero".
    iframe_share: a.
    """

    source: str
    num_channels: int
    first: str
    iframe_share: float = 0.0

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

    def slots(self, iframe: Array, frames: Array, offset: float) -> tuple[Array, Array]:
        """The first slot and the others, before normalisation, of U_0 and the S_t, which have one more axis T."""
        if self.source == "iframe":
            return iframe, frames[..., :0, :, :]
        added = offset if self.source == "residual" else 0.0
        others = frames * (1 - self.iframe_share) + (added * (1 - self.iframe_share) + iframe * self.iframe_share)
        second = others[..., :1, :, :]
        return {"iframe": iframe, "second": second, "zero": second * 0}[self.first], others


CLIP_FORMATS: dict[str, ClipFormat] = {
    "rgb": ClipFormat("frames", 3, "iframe"),  # [U_0, U_1 .. U_11], the teacher's clip (Eq. 1)
    "augmented": ClipFormat("residual", 3, "iframe", 0.5),  # [U_0, (R_t + U_0) / 2], the full method (Eq. 3, 4)
    "residual": ClipFormat("residual", 3, "iframe"),  # [U_0, R_t] (Eq. 9)
    "residual-only": ClipFormat("residual", 3, "second"),  # [R_1, R_1, R_2 .. R_11] (Eq. 10)
    "motion": ClipFormat("motion", 2, "zero"),  # [0, D_t], for users of CoViAR: the I-frame has none
    "iframe": ClipFormat("iframe", 3, "iframe"),  # [U_0], as CoViAR's first network sees it
}
