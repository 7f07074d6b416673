"""What is asked of every video that is encoded, and how it is written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIN_SIDE_PX, MAX_SIDE_PX = 16, 4096
MAX_GOP_SIZE = 600  # the encoder lowers anything above without an error

# Frames to write of `num_real` decoded ones: what the user types, and the rule.
TAILS: Mapping[str, Callable[[int, int], int]] = {
    "auto": lambda num_real, gop_size: max(num_real // gop_size, 1) * gop_size,
    "drop": lambda num_real, gop_size: num_real // gop_size * gop_size,
    "pad": lambda num_real, gop_size: -(-num_real // gop_size) * gop_size,
}


@dataclass(frozen=True)
class EncodeSettings:
    """What is asked of every video.

    size: (width, height), pixels, even. gop_size: frames. quality: the encoder's quantiser, 2 (best) to 31.
    fps: resample to this rate; None keeps every frame. tail: a key of TAILS. strict: a damaged video
    counts as failed; its file stays.
    """

    size: tuple[int, int] = (256, 256)
    gop_size: int = 12
    quality: int = 2
    fps: Fraction | None = None
    tail: str = "auto"
    strict: bool = False

    def __post_init__(self) -> None:
        if any(side % 2 or not MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in self.size):
            got = "x".join(map(str, self.size))
            raise UsageError(f"size {got}: expected even sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels, as 256x256")
        if not 2 <= self.gop_size <= MAX_GOP_SIZE:
            raise UsageError(f"gop size {self.gop_size}: expected 2 to {MAX_GOP_SIZE} frames")
        if not 2 <= self.quality <= 31:
            raise UsageError(f"quality {self.quality}: expected 2 (best) to 31")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"fps {self.fps}: expected a rate above 0, up to 1000")
        if self.tail not in TAILS:
            raise UsageError(f"tail {self.tail!r}: expected one of {', '.join(TAILS)}")

    def to_dict(self) -> dict[str, Any]:
        """What the bytes of a video depend on, beside its source, as plain JSON values."""
        values = asdict(self) | {"size": list(self.size), "fps": None if self.fps is None else str(self.fps)}
        del values["strict"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncodeSettings:
        """Parse what `to_dict` gave. Raises UsageError."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        try:
            width, height = known["size"]
            fps = None if known.get("fps") is None else Fraction(known["fps"])
            return cls(**known | {"size": (width, height), "fps": fps})
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise UsageError(
                f"settings of encode are not usable ({error!r}): expected those of mfcd-prep encode"
            ) from None
