"""From an encoded video to GOPs of I-frame, accumulated residuals and accumulated motion, in reused buffers (Eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mfcd_core.errors import GopError, VideoError
from mfcd_core.motion import NO_BLOCKS
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.residual import residual_plane, warp_plane
from mfcd_core.trace import accumulate_motion, identity_sources, no_cells, trace_frame
from mfcd_prep.decode import require_decoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mfcd_core.planes import Plane
    from mfcd_core.store.settings import StoreSettings
    from mfcd_prep.decode import DecodedFrame


class GopTarget(Protocol):
    """Takes a GOP frame by frame.

    frames: by the names of `StoreSettings.stored_arrays`, memory for the plain values of each frame, to be filled in
    order; an I-frame has one, and lasts as long as its GOP.
    """

    @property
    def frames(self) -> Mapping[str, Sequence[NDArray[Any]]]:
        """See above."""

    def end_frame(self, name: str, index: int) -> None:
        """Take `frames[name][index]`."""


class PlainGop:
    """Keeps plain values: arrays by the names of `StoreSettings.stored_arrays`."""

    def __init__(self, settings: StoreSettings) -> None:
        self.arrays = {array.name: array.empty() for array in settings.stored_arrays()}
        self.frames = {
            name: [array] if name.startswith("iframe/") else list(array) for name, array in self.arrays.items()
        }

    def end_frame(self, name: str, index: int) -> None:
        """They are where they belong."""


class GopTracer:
    """Fills one GOP after another; its buffers are allocated once.

    arrays: the GOP so far, by the names of `StoreSettings.stored_arrays`, where no other `target` takes it.
    """

    def __init__(self, settings: StoreSettings, target: GopTarget | None = None) -> None:
        self.arrays: Mapping[str, NDArray[Any]] = {}
        if target is None:
            target = plain = PlainGop(settings)
            self.arrays = plain.arrays
        self._target = target
        self._step = settings.residual_step
        self._planes = [_PlaneBuffers(plane, self._target) for plane in PIXEL_FORMATS[settings.pixel_format]]
        self._identity = identity_sources(settings.height_px, settings.width_px)
        self._sources, self._traced = (np.empty_like(self._identity) for _ in range(2))
        self._changed = no_cells(settings.height_px, settings.width_px)

    def begin(self, frame: DecodedFrame) -> None:
        """Take the I-frame: S_0(p) = p."""
        for plane in self._planes:
            for sheet, stored in zip(plane.sheets_of(frame), plane.iframe, strict=True):
                stored[:] = sheet[:, : stored.shape[1]]
            plane.warped[:] = plane.iframe
            self._target.end_frame(plane.iframe_name, 0)
        self._sources[:] = self._identity

    def add(self, position: int, frame: DecodedFrame, blocks: NDArray[np.int32]) -> None:
        """Take the P-frame at `position` (1 to gop_size - 1): trace, then residuals of every plane."""
        self.trace(position, blocks)
        self.subtract(position, frame)

    def trace(self, position: int, blocks: NDArray[np.int32]) -> None:
        """S_t from S_{t-1}, and D_t."""
        trace_frame(self._sources, blocks, self._traced, self._changed)
        accumulate_motion(self._sources, self._target.frames["motion"][position - 1])
        self._target.end_frame("motion", position - 1)

    def subtract(self, position: int, frame: DecodedFrame) -> None:
        """R_t of every plane."""
        for plane in self._planes:
            warp_plane(plane.iframe, self._sources, self._changed, plane.shift, plane.channels, plane.warped)
            residual_plane(plane.sheets_of(frame), plane.warped, self._step, plane.residuals[position - 1])
            self._target.end_frame(plane.residual_name, position - 1)


class _PlaneBuffers:
    """Views of one plane's arrays, one (h, w * channels) a sheet, as `residual_plane` takes them."""

    def __init__(self, plane: Plane, target: GopTarget) -> None:
        self.iframe_name, self.residual_name = (f"{kind}/{plane.name}" for kind in ("iframe", "residual"))
        self.shift = plane.subsampling_shift
        self.first_sheet = int(plane.name == "chroma")
        self.num_sheets, self.channels = (1, plane.num_channels) if plane.interleaved else (plane.num_channels, 1)
        (iframe,) = target.frames[self.iframe_name]
        sheets = (self.num_sheets, iframe.shape[0 if plane.interleaved else -2], -1)
        self.iframe = iframe.reshape(sheets)
        self.warped = np.empty_like(self.iframe)
        self.residuals = [frame.reshape(sheets) for frame in target.frames[self.residual_name]]

    def sheets_of(self, frame: DecodedFrame) -> tuple[NDArray[np.uint8], ...]:
        return frame.sheets[self.first_sheet : self.first_sheet + self.num_sheets]


def iter_gops(path: Path, settings: StoreSettings, tracer: GopTracer) -> Iterator[int]:
    """Decode `path` once, fill `tracer.arrays` GOP by GOP, and yield each GOP's number of real frames.

    An incomplete last GOP is dropped or padded as `settings.tail` says (DESIGN 3). Raises GopError with the frame
    where the grid of one I-frame and gop_size - 1 P-frames breaks, VideoError for another frame size or a damaged file.
    """
    position, num_gops = 0, 0
    frame = None
    decoder = require_decoder(settings.decoder, settings.pixel_format)
    for index, frame in enumerate(decoder.iter_frames(path, settings.pixel_format, settings.trace)):
        _check_frame(settings, index, frame)
        position = index % settings.gop_size
        if position == 0:
            tracer.begin(frame)
        else:
            tracer.add(position, frame, frame.blocks)
        if position == settings.gop_size - 1:
            num_gops += 1
            yield settings.gop_size
    if frame is None:
        raise VideoError("no frames decode", "no-frames")
    incomplete = position != settings.gop_size - 1
    if incomplete and (settings.tail == "pad" or (settings.tail == "auto" and num_gops == 0)):
        for repeat in range(position + 1, settings.gop_size):
            tracer.add(repeat, frame, NO_BLOCKS)
        yield position + 1


def _check_frame(settings: StoreSettings, index: int, frame: DecodedFrame) -> None:
    if (frame.width_px, frame.height_px) != (settings.width_px, settings.height_px):
        got, expected = f"{frame.width_px}x{frame.height_px}", f"{settings.width_px}x{settings.height_px}"
        reason = f"frame {index} is {got}, expected the store's {expected}; encode it with --size {expected}"
        raise VideoError(reason, "other-format")
    expected_type = "P" if index % settings.gop_size else "I"
    if frame.picture_type != expected_type:
        raise GopError(
            f"frame {index} is {frame.picture_type}, expected {expected_type} "
            f"on a grid of {settings.gop_size}; run mfcd-prep encode"
        )
