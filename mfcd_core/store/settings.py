"""What every GOP of a store has in common."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcd_core.errors import StoreError, UsageError
from mfcd_core.motion import TRACES
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store.compression import AUTO, COMPRESSIONS, LEVELS, NONE
from mfcd_core.store.packing import StoredArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mfcd_core.planes import Plane

FORMAT = "mfcd-store"
FORMAT_VERSION = 1
RESIDUAL_STEPS = (1, 2, 4)
MAX_SIDE_PX = 8176  # a source position in quarter pixels fits int16
MAX_GOP_SIZE = 255


@dataclass(frozen=True)
class StoreSettings:
    """Frame size in pixels, frames a GOP, planes, trace, residual step, and how the input was encoded and decoded.

    compression, level: see `build_compressor`; without compression chunks hold plain values, and `level` says nothing.
    """

    width_px: int
    height_px: int
    gop_size: int = 12
    pixel_format: str = "yuv420p"
    trace: str = "subpel"
    residual_step: int = 2
    compression: str = "zstd"
    level: int | str = 1
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
        _require(self.compression in COMPRESSIONS, self, "compression", " or ".join(COMPRESSIONS))
        expected = f"auto, or a zstd level, {LEVELS[0]} to {LEVELS[-1]}"
        _require(self.level == AUTO or self.level in LEVELS, self, "level", expected)

    @property
    def residual_dtype(self) -> np.dtype[Any]:
        """int16 for the lossless step 1; int8 otherwise: -255..255 over a step of 2 fits without clipping."""
        return np.dtype("<i2" if self.residual_step == 1 else "i1")

    @property
    def motion_dtype(self) -> np.dtype[Any]:
        """One byte, D modulo 256, where p - D modulo 256 is one pixel of the frame alone; int16 otherwise."""
        return np.dtype("u1" if max(self.width_px, self.height_px) <= 256 else "<i2")

    def stored_arrays(self) -> tuple[StoredArray, ...]:
        """The data sets of a shard in the order in which a GOP's chunks lie in the file: motion last."""
        planes = PIXEL_FORMATS[self.pixel_format]
        arrays = (*map(self._iframe_array, planes), *map(self._residual_array, planes), self._motion_array())
        if self.compression == NONE:
            return tuple(replace(array, difference=(), digits=False) for array in arrays)
        return arrays

    def _iframe_array(self, plane: Plane) -> StoredArray:
        shape = plane.shape(self.height_px, self.width_px)
        dtype = np.dtype("u1")
        return StoredArray(f"iframe/{plane.name}", plane.axes, shape, dtype, dtype, ("row", "column"))

    def _residual_array(self, plane: Plane) -> StoredArray:
        shape = (self.gop_size - 1, *plane.shape(self.height_px, self.width_px))
        axes, dtype = ("frame", *plane.axes), self.residual_dtype
        return StoredArray(f"residual/{plane.name}", axes, shape, dtype, dtype, ("frame",))

    def _motion_array(self) -> StoredArray:
        shape = (self.gop_size - 1, 2, self.height_px, self.width_px)
        axes, dtype = ("frame", "component", "row", "column"), np.dtype("<i2")
        return StoredArray("motion", axes, shape, dtype, self.motion_dtype, ("row",), digits=False)

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
