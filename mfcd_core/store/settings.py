"""What every GOP of a store has in common."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.errors import StoreError, UsageError
from mfcd_core.motion import TRACES
from mfcd_core.planes import PIXEL_FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "mfcd-store"
FORMAT_VERSION = 1
RESIDUAL_STEPS = (1, 2, 4)
MAX_SIDE_PX = 8176  # a source position in quarter pixels fits int16
MAX_GOP_SIZE = 255


@dataclass(frozen=True)
class StoredArray:
    """One data set of a shard: its name in the tree and what one GOP (one chunk) of it is."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of one GOP before compression."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class StoreSettings:
    """Frame size in pixels, frames a GOP, planes, trace, residual step, and how the input was encoded and decoded."""

    width_px: int
    height_px: int
    gop_size: int = 12
    pixel_format: str = "yuv420p"
    trace: str = "subpel"
    residual_step: int = 2
    level: int = 1
    tail: str = "auto"
    encoder: Mapping[str, Any] = field(default_factory=dict)
    decoder: str = "pyav"

    def __post_init__(self) -> None:
        for name in ("width_px", "height_px"):
            _require(getattr(self, name) in range(2, MAX_SIDE_PX + 1, 2), self, name, f"even, 2 to {MAX_SIDE_PX}")
        _require(self.gop_size in range(2, MAX_GOP_SIZE + 1), self, "gop_size", f"2 to {MAX_GOP_SIZE}")
        _require(self.pixel_format in PIXEL_FORMATS, self, "pixel_format", " or ".join(PIXEL_FORMATS))
        _require(self.trace in TRACES, self, "trace", " or ".join(TRACES))
        _require(self.residual_step in RESIDUAL_STEPS, self, "residual_step", "1, 2 or 4")
        _require(self.level in range(-7, 23), self, "level", "a zstd level, -7 to 22")

    @property
    def residual_dtype(self) -> np.dtype[Any]:
        """int16 for the lossless step 1; int8 otherwise: -255..255 over a step of 2 fits without clipping."""
        return np.dtype("<i2" if self.residual_step == 1 else "i1")

    def stored_arrays(self) -> tuple[StoredArray, ...]:
        """The data sets of a shard in the order in which a GOP's chunks lie in the file: motion last."""
        planes = [
            (plane.name, plane.shape(self.height_px, self.width_px)) for plane in PIXEL_FORMATS[self.pixel_format]
        ]
        num_p = self.gop_size - 1
        return (
            *(StoredArray(f"iframe/{name}", np.dtype("u1"), shape) for name, shape in planes),
            *(StoredArray(f"residual/{name}", self.residual_dtype, (num_p, *shape)) for name, shape in planes),
            StoredArray("motion", np.dtype("<i2"), (num_p, 2, self.height_px, self.width_px)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "encoder": dict(self.encoder)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StoreSettings:
        """Parse what `to_dict` wrote; unknown keys are ignored. Raises StoreError."""
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in known})
        except (AttributeError, TypeError, UsageError) as error:
            raise StoreError(f"settings of the store are not usable: {error}") from None


def _require(holds: bool, settings: StoreSettings, name: str, expected: str) -> None:  # noqa: FBT001
    if not holds:
        raise UsageError(f"{name} is {getattr(settings, name)!r}: expected {expected}")
