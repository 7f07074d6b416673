"""From a batch of stored planes to normalised clips, on the device, in a few fused tensor operations (DESIGN 2, 5).

Inside, stored pictures are (N, T, C, H, W), T = 1 for I-frames, and those of a clip (N, C, T, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - the name that every PyTorch reader knows

from mfcd_core.clip import CLIP_FORMATS, MOTION_SCALE, RGB_MEAN, RGB_SCALE
from mfcd_core.errors import UsageError
from mfcd_core.planes import CB_TO_B, CB_TO_G, CR_TO_G, CR_TO_R, LUMA_GAIN, PIXEL_FORMATS
from mfcd_train.window import Window, gather_pixels, number_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_core.clip import ClipFormat
    from mfcd_core.planes import Plane
    from mfcd_core.store.settings import StoreSettings
    from mfcd_train.config import DataRecipe
    from mfcd_train.loader import Batch

CPU_PART = 2  # samples
FRACTION = 8192  # of the fixed-point coefficients of mfcd_core.planes


@dataclass(frozen=True)
class Assembler:
    """Builds clips of a store: frames resized to squares of `frame_size` pixels, then cropped to `crop_size`.

    num_frames: P-frames that are drawn of a clip and stand for it; 0: the whole clip. Raises UsageError for a crop that
    is no part of the frame.
    """

    settings: StoreSettings
    frame_size: int
    crop_size: int
    residual_offset: float = 0.0
    num_frames: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.crop_size <= self.frame_size:
            raise UsageError(f"crop_size {self.crop_size}: expected 1 to {self.frame_size}, which is frame_size")

    def __call__(self, batch: Batch, formats: Sequence[str]) -> dict[str, Tensor]:
        """Clips by format from the same GOPs, crops and flips, each (N, C, T, crop, crop) float32, normalised.

        T is `num_frames`, or, if that is 0, what the format makes of a GOP.

        `rgb` is rebuilt by Eq. 2; a flip negates dx of `motion`. Frames that need no resizing are cropped first, where
        the crop is one of whole chroma samples. A CPU takes a few samples at a time: its caches are small. Raises
        UsageError for `num_frames` of the I-frame alone.
        """
        if self.num_frames and "iframe" in formats:
            raise UsageError(f"num_frames {self.num_frames} of the clip format iframe: expected 0, it has one frame")
        num_clips, device = len(batch.labels), batch.labels.device
        size = (self.crop_size, self.crop_size)
        clips = {name: _new_clip(self._shape(name, num_clips, size), device) for name in formats}
        part_size = CPU_PART if device.type == "cpu" else max(num_clips, 1)
        for start in range(0, num_clips, part_size):
            rows = slice(start, start + part_size)
            self._assemble(batch[rows], {name: clip[rows] for name, clip in clips.items()})
        return clips

    def _shape(self, name: str, num_clips: int, size: tuple[int, int]) -> tuple[int, ...]:
        clip_format = CLIP_FORMATS[name]
        length = self.num_frames or clip_format.num_slots(self.settings.gop_size)
        return (num_clips, clip_format.num_channels, length, *size)

    def _assemble(self, batch: Batch, clips: Mapping[str, Tensor]) -> None:
        crop, scale = self._crop(batch), self._motion_scale(batch)
        height, width = self.settings.height_px, self.settings.width_px
        if height == width == self.frame_size and self.crop_size % 2 == 0:
            gops = _Gops(batch, self, crop)
            for name, clip in clips.items():
                gops.fill(name, clip, scale)
            return
        gops = _Gops(batch, self, self._whole(batch))
        for name, clip in clips.items():
            whole = clip.new_empty(self._shape(name, len(clip), (height, width)))
            gops.fill(name, whole, scale)
            clip.copy_(crop.take(self._resize(whole).transpose(1, 2)))

    def _crop(self, batch: Batch) -> Window:
        """Corners at even places, so that chroma is cropped with luma."""
        room = (self.frame_size - self.crop_size) // 2
        top, left = (2 * (place * room).round().astype(np.int64) for place in (batch.draws.top, batch.draws.left))
        rows, columns = (corner[:, None] + np.arange(self.crop_size) for corner in (top, left))
        columns = np.where(batch.draws.flip[:, None], columns[:, ::-1], columns)
        return Window(rows, columns, self.frame_size, batch.labels.device)

    def _whole(self, batch: Batch) -> Window:
        size = (self.settings.height_px, self.settings.width_px)
        rows, columns = (np.arange(side)[None].repeat(len(batch.labels), 0) for side in size)
        return Window(rows, columns, size[1], batch.labels.device)

    def _motion_scale(self, batch: Batch) -> Tensor:
        """(N, 2) for (dy, dx): to pixels of the resized picture, dx to the other side where it is mirrored."""
        height, width = self.settings.height_px, self.settings.width_px
        resized = np.array([self.frame_size / height, self.frame_size / width])
        scale = MOTION_SCALE * resized * np.where(batch.draws.flip[:, None], [1, -1], 1)
        return torch.from_numpy(scale.astype(np.float32)).to(batch.labels.device)

    def _resize(self, clip: Tensor) -> Tensor:
        size = (self.frame_size, self.frame_size)
        if clip.shape[-2:] == size:
            return clip
        resized = F.interpolate(clip.flatten(1, 2), size, mode="bilinear", antialias=True)
        return resized.reshape(*clip.shape[:3], *size)


def build_assembler(settings: StoreSettings, data: DataRecipe) -> Assembler:
    """The assembler that a recipe asks for, of the GOPs of a store."""
    return Assembler(settings, data.frame_size, data.crop_size, data.residual_offset, data.num_frames)


def _new_clip(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Memory for a clip; on a CPU in huge pages, which NumPy asks for and torch does not."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.float32))
    return torch.empty(shape, device=device)


def take_frames(frames: Tensor, phase: NDArray[np.float32], num_frames: int) -> Tensor:
    """Of (N, T, ...) `num_frames` frames a sample, in order and T / num_frames apart: (N, num_frames, ...).

    The phase says where the first lies between 0 and T / num_frames: each frame is as likely where it is random.
    """
    spacing = frames.shape[1] / num_frames
    places = np.floor((np.arange(num_frames) + phase[:, None].astype(np.float64)) * spacing).astype(np.int64)
    return frames[torch.arange(len(frames))[:, None], torch.from_numpy(places)]


class _Gops:
    """The GOPs of a batch, as clips within a window."""

    def __init__(self, batch: Batch, assembler: Assembler, window: Window) -> None:
        self._batch = batch
        self._assembler = assembler
        self._window = window
        self._device = batch.labels.device
        self._step = assembler.settings.residual_step
        self._planes = PIXEL_FORMATS[assembler.settings.pixel_format]
        self._windows = {plane.name: window.of_plane(plane.subsampling_shift) for plane in self._planes}

    def fill(self, name: str, clip: Tensor, motion_scale: Tensor) -> None:
        """Every slot of a clip (N, C, T, H, W), normalised: motion by the scale (N, 2) of (dy, dx)."""
        clip_format = CLIP_FORMATS[name]
        first, others = clip.tensor_split([0 if self._assembler.num_frames else 1], dim=2)
        if clip_format.source == "motion":
            torch.mul(self._motion(), motion_scale[:, :, None, None, None], out=others)
        elif clip_format.source == "residual":
            self._normalise(_residuals_to_rgb(self._residuals, self._step, others), clip_format)
        elif clip_format.source == "frames":
            self._normalise(_frames_to_rgb(self._frames(), others), clip_format)
        if clip_format.first == "zero":
            first.zero_()
        elif first.shape[2]:
            first.copy_(self._iframe if clip_format.first == "iframe" else others[:, :, :1])

    def _normalise(self, slots: Tensor, clip_format: ClipFormat) -> None:
        """Levels S_t to what stands in the slots behind the first, in place: (1 - a) (S_t + offset) + a U_0."""
        share = clip_format.iframe_share
        offset = self._assembler.residual_offset if clip_format.source == "residual" else 0.0
        rest = self._normal_level(offset, 1 - share)
        if share:
            rest = torch.add(rest, self._iframe, alpha=share)
        torch.add(rest, slots, alpha=RGB_SCALE * (1 - share), out=slots)

    def _normal_level(self, level: float, share: float = 1.0) -> Tensor:
        """The share of a level of all channels, normalised, (3, 1, 1, 1)."""
        levels = [(level - mean) * RGB_SCALE * share for mean in RGB_MEAN]
        return torch.tensor(levels, device=self._device).view(3, 1, 1, 1)

    @cached_property
    def _iframe(self) -> Tensor:
        """U_0, normalised, (N, 3, 1, H, W)."""
        levels = torch.empty((len(self._batch.labels), 3, 1, *self._window.size), device=self._device)
        _frames_to_rgb({plane.name: self._take("iframe", plane) for plane in self._planes}, levels)
        return torch.add(self._normal_level(0.0), levels, alpha=RGB_SCALE)

    @cached_property
    def _residuals(self) -> dict[str, Tensor]:
        """R_t as stored, by plane: shared by the clips of a student and its teacher."""
        return {plane.name: self._take("residual", plane) for plane in self._planes}

    def _frames(self) -> dict[str, Tensor]:
        """U_t = U_0(p - D_t) + R_t (Eq. 2) by plane, clamped to 0..255, int16."""
        pairs = ((plane.name, self._warp(plane), self._residuals[plane.name]) for plane in self._planes)
        return {name: torch.add(warped, residual, alpha=self._step).clamp_(0, 255) for name, warped, residual in pairs}

    def _motion(self) -> Tensor:
        """D_t of the picture before it is mirrored, (N, 2, T, H, W), order (dy, dx)."""
        return self._window.places(torch.int32) - self._look_up(self._window)

    def _warp(self, plane: Plane) -> Tensor:
        """U_0(p - D_t(p)); look-ups of subsampled planes as DESIGN 2 has them."""
        shift, window = plane.subsampling_shift, self._windows[plane.name]
        rows, columns = (self._look_up(window.of_luma(shift)) >> shift).unsqueeze(3).unbind(1)
        return gather_pixels(self._pictures("iframe", plane), number_pixels(rows.long(), columns, window.picture_width))

    def _look_up(self, window: Window) -> Tensor:
        """Rows and columns p - D_t(p) of luma, (N, 2, T, H, W) in the stored type of D_t, which is modulo."""
        motion = window.take(self._drawn(self._batch.planes["motion"]))
        return window.places(motion.dtype) - motion

    def _take(self, kind: str, plane: Plane) -> Tensor:
        return self._windows[plane.name].take(self._pictures(kind, plane))

    def _pictures(self, kind: str, plane: Plane) -> Tensor:
        """Whole pictures of a plane as stored, (N, T, C, h, w)."""
        stored = self._batch.planes[f"{kind}/{plane.name}"]
        stored = stored.unsqueeze(1) if kind == "iframe" else self._drawn(stored)
        if plane.interleaved:
            return stored.movedim(-1, -3)
        return stored.unsqueeze(-3) if plane.num_channels == 1 else stored

    def _drawn(self, frames: Tensor) -> Tensor:
        num_frames = self._assembler.num_frames
        return take_frames(frames, self._batch.draws.phase, num_frames) if num_frames else frames


def _frames_to_rgb(planes: dict[str, Tensor], out: Tensor) -> Tensor:
    """RGB levels of frames into (N, 3, T, H, W), each product floored as FFmpeg's converter does."""
    if "rgb" in planes:
        return out.copy_(planes["rgb"])
    gain, device = LUMA_GAIN / FRACTION, out.device
    luma = torch.add(torch.tensor(-16 * gain, device=device), planes["luma"], alpha=gain).floor_()
    chroma = planes["chroma"].unsqueeze(1)
    products = torch.addcmul(_chroma_gains(-128, device), chroma, _chroma_gains(1, device)).floor_()
    return _add_planes(products, luma, 1.0, out).clamp_(0, 255)


def _residuals_to_rgb(planes: dict[str, Tensor], step: int, out: Tensor) -> Tensor:
    """The linear part of the conversion of residuals / step into (N, 3, T, H, W), clamped to -255..255."""
    if "rgb" in planes:
        return torch.mul(planes["rgb"], float(step), out=out).clamp_(-255, 255)
    products = planes["chroma"].unsqueeze(1) * _chroma_gains(step, out.device)
    return _add_planes(products, planes["luma"], step * LUMA_GAIN / FRACTION, out).clamp_(-255, 255)


def _chroma_gains(level: int, device: torch.device) -> Tensor:
    """What that level of Cb and Cr, the second axis, gives to R, G and B, the first: (3, 2, 1, 1, 1)."""
    gains = np.array([[0, CR_TO_R], [CB_TO_G, CR_TO_G], [CB_TO_B, 0]]) * (level / FRACTION)
    return torch.from_numpy(gains.astype(np.float32)).to(device).view(3, 2, 1, 1, 1)


def _add_planes(chroma: Tensor, luma: Tensor, gain: float, out: Tensor) -> Tensor:
    """What chroma gives, (N, 3, 2, T, H/2, W), and luma (N, 1, T, H, W) times its gain, added up in (N, 3, T, H, W)."""
    blue, red = chroma.unbind(2)
    torch.add((blue + red).unsqueeze(-2), _pairs_of_rows(luma), alpha=gain, out=_pairs_of_rows(out))
    return out


def _pairs_of_rows(pictures: Tensor) -> Tensor:
    """A view of (..., H, W) as (..., H/2, 2, W)."""
    *lead, height, width = pictures.shape
    return pictures.view(*lead, height // 2, 2, width)
