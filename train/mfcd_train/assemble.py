"""From a batch of stored planes to normalised clips, on the device, in batched tensor operations (DESIGN 2, 5).

Inside, a picture is planar, (N, C, H, W), and a run of pictures (N, C, T, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - the name that every PyTorch reader knows

from mfcd_core.clip import CLIP_FORMATS, MOTION_SCALE, RGB_MEAN, RGB_SCALE
from mfcd_core.planes import CB_TO_B, CB_TO_G, CR_TO_G, CR_TO_R, LUMA_GAIN, PIXEL_FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_core.planes import Plane
    from mfcd_core.store.settings import StoreSettings
    from mfcd_train.config import DataRecipe
    from mfcd_train.loader import Batch

CPU_PART = 4  # samples
FRACTION = 8192  # of the fixed-point coefficients of mfcd_core.planes


@dataclass(frozen=True)
class Assembler:
    """Builds clips of a store: frames resized to squares of `frame_size` pixels, then cropped to `crop_size`.

    num_frames: P-frames that are drawn of a clip and stand for it; 0: the whole clip.
    """

    settings: StoreSettings
    frame_size: int
    crop_size: int
    residual_offset: float = 0.0
    num_frames: int = 0

    def __call__(self, batch: Batch, formats: Sequence[str]) -> dict[str, Tensor]:
        """Clips by format from the same GOPs, crops and flips, each (N, C, T, crop, crop) float32, normalised.

        T is `num_frames`, or, if that is 0, what the format makes of a GOP.

        `rgb` is rebuilt by Eq. 2; a flip negates dx of `motion`. Frames that need no resizing are cropped first, where
        the crop is one of whole chroma samples. A CPU takes a few samples at a time: its caches are small.
        """
        num_clips, device = len(batch.labels), batch.labels.device
        clips = {name: torch.empty((num_clips, *self._clip_shape(name)), device=device) for name in formats}
        part_size = CPU_PART if device.type == "cpu" else max(num_clips, 1)
        for start in range(0, num_clips, part_size):
            rows = slice(start, start + part_size)
            self._assemble(batch[rows], {name: clip[rows] for name, clip in clips.items()})
        return clips

    def _clip_shape(self, name: str) -> tuple[int, int, int, int]:
        clip_format = CLIP_FORMATS[name]
        length = self.num_frames or clip_format.num_slots(self.settings.gop_size)
        return clip_format.num_channels, length, self.crop_size, self.crop_size

    def _assemble(self, batch: Batch, clips: Mapping[str, Tensor]) -> None:
        crops = self._crops(batch)
        same_size = (self.settings.height_px, self.settings.width_px) == (self.frame_size, self.frame_size)
        early = same_size and self.crop_size % 2 == 0
        gop = _PlanarGop(batch, self.settings, crops if early else _Window.whole(self.settings, len(batch.labels)))
        for name, out in clips.items():
            parts = self._parts(gop, name, batch.draws.phase)
            if not early:
                parts = [crops.mirror(crops.cut(self._resize(part, name), 0)) for part in parts]
            _normalise(parts, name, out)
            if CLIP_FORMATS[name].source == "motion":
                out[:, 1] *= torch.where(crops.flips, -1.0, 1.0).view(-1, 1, 1, 1)

    def _crops(self, batch: Batch) -> _Window:
        """Corners at even places, so that chroma is cropped with luma."""
        room = (self.frame_size - self.crop_size) // 2
        tops, lefts = ((place * room).round().astype(int) * 2 for place in (batch.draws.top, batch.draws.left))
        flips = torch.from_numpy(batch.draws.flip).to(batch.labels.device)
        return _Window(tops.tolist(), lefts.tolist(), self.crop_size, self.crop_size, flips)

    def _parts(self, gop: _PlanarGop, name: str, phase: NDArray[np.float32]) -> list[Tensor]:
        """Slots of a clip in pieces that follow each other: the first one and the others, or those that are drawn."""
        clip_format = CLIP_FORMATS[name]
        first, others = clip_format.slots(gop.iframe, gop.read(clip_format.source), self.residual_offset)
        if self.num_frames:
            return [take_frames(others, phase, self.num_frames)]
        return [part for part in (first, others) if part.shape[2]]

    def _resize(self, clip: Tensor, name: str) -> Tensor:
        height, width = clip.shape[-2:]
        size = (self.frame_size, self.frame_size)
        resized = F.interpolate(clip.flatten(1, 2), size, mode="bilinear", antialias=True).reshape(
            *clip.shape[:3], *size
        )
        if CLIP_FORMATS[name].source == "motion":
            resized *= torch.tensor([size[0] / height, size[1] / width], device=clip.device).view(2, 1, 1, 1)
        return resized


def build_assembler(settings: StoreSettings, data: DataRecipe) -> Assembler:
    """The assembler that a recipe asks for, of the GOPs of a store."""
    return Assembler(settings, data.frame_size, data.crop_size, data.residual_offset, data.num_frames)


def take_frames(frames: Tensor, phase: NDArray[np.float32], num_frames: int) -> Tensor:
    """Of (N, C, T, H, W) `num_frames` frames a sample, in order and T / num_frames apart: (N, C, num_frames, H, W).

    The phase says where the first lies between 0 and T / num_frames: each frame is as likely where it is random.
    """
    spacing = frames.shape[2] / num_frames
    places = np.floor((np.arange(num_frames) + phase[:, None].astype(np.float64)) * spacing).astype(np.int64)
    return torch.stack([sample[:, place] for sample, place in zip(frames, torch.from_numpy(places), strict=True)])


@dataclass(frozen=True)
class _Window:
    """One rectangle of pixels a sample: its corners, the size that all share, and whether it is mirrored, (N,)."""

    tops: list[int]
    lefts: list[int]
    height: int
    width: int
    flips: Tensor

    @classmethod
    def whole(cls, settings: StoreSettings, num_samples: int) -> _Window:
        none = [0] * num_samples
        return cls(none, none, settings.height_px, settings.width_px, torch.zeros(num_samples, dtype=torch.bool))

    def mirror(self, images: Tensor) -> Tensor:
        """Mirror those samples of (N, ..., W) that are to be."""
        flips = self.flips.to(images.device).view(-1, *(1,) * (images.ndim - 1))
        return torch.where(flips, images.flip(-1), images)

    def cut(self, images: Tensor, shift: int) -> Tensor:
        """Cut it out of (N, ..., H, W), subsampled by 2^shift."""
        height, width = self.height >> shift, self.width >> shift
        if images.shape[-2:] == (height, width):
            return images
        corners = zip(self.tops, self.lefts, strict=True)
        return torch.stack(
            [
                image[..., top >> shift : (top >> shift) + height, left >> shift : (left >> shift) + width]
                for image, (top, left) in zip(images, corners, strict=True)
            ]
        )


class _PlanarGop:
    """The GOPs of a batch within a window: what they hold in RGB levels, float32."""

    def __init__(self, batch: Batch, settings: StoreSettings, window: _Window) -> None:
        self._batch = batch
        self._window = window
        self._step = settings.residual_step
        self._planes = PIXEL_FORMATS[settings.pixel_format]

    def read(self, source: str) -> Tensor:
        """What a clip format takes from the GOP, by its `source`."""
        return self.iframe if source == "iframe" else getattr(self, source)()

    @cached_property
    def iframe(self) -> Tensor:
        """U_0, (N, 3, 1, H, W)."""
        return _frames_to_rgb({plane.name: self._cut("iframe", plane).unsqueeze(2) for plane in self._planes})

    def residual(self) -> Tensor:
        """R_t = A R_yuv, clamped to -255..255, (N, 3, T, H, W)."""
        return _residuals_to_rgb(self._residuals)

    def frames(self) -> Tensor:
        """U_t = U_0(p - D_t) + R_t (Eq. 2), clamped to 0..255 plane by plane, (N, 3, T, H, W)."""
        planes = {}
        for plane in self._planes:
            warped = self._warp(self._stored("iframe", plane), plane.subsampling_shift)
            planes[plane.name] = (warped + self._residuals[plane.name]).clamp_(0, 255)
        return _frames_to_rgb(planes)

    def motion(self) -> Tensor:
        """D_t in pixels of the picture before it is mirrored, (N, 2, T, H, W), order (dy, dx)."""
        places = self._places(1)
        pairs = [place - look_up for place, look_up in zip(places, self._look_up(1), strict=True)]
        return self._window.mirror(torch.stack(pairs, 1).float())

    def _places(self, every: int) -> tuple[Tensor, Tensor]:
        """Rows (N, 1, H, 1) and columns (N, 1, 1, W) of every n-th pixel of the window."""
        device = self._batch.planes["motion"].device
        tops, lefts = (
            torch.tensor(c, device=device).view(-1, 1, 1, 1) for c in (self._window.tops, self._window.lefts)
        )
        down = torch.arange(0, self._window.height, every, device=device).view(-1, 1)
        return tops + down, lefts + torch.arange(0, self._window.width, every, device=device)

    def _look_up(self, every: int) -> tuple[Tensor, Tensor]:
        """Rows and columns p - D_t(p) of every n-th pixel of the window, each (N, T, H, W); D_t as stored, modulo."""
        motion = self._window.cut(self._batch.planes["motion"], 0)[..., ::every, ::every]
        modulo = (place.to(motion.dtype) - motion[:, :, axis] for axis, place in enumerate(self._places(every)))
        rows, columns = (look_up.long() for look_up in modulo)
        return rows, columns

    def _stored(self, kind: str, plane: Plane) -> Tensor:
        """A plane in its stored type, made planar: (N, C, h, w), or (N, T, C, h, w)."""
        stored = self._batch.planes[f"{kind}/{plane.name}"]
        if plane.interleaved:
            return stored.movedim(-1, -3)
        return stored.unsqueeze(-3) if plane.num_channels == 1 else stored

    def _cut(self, kind: str, plane: Plane) -> Tensor:
        return self._window.mirror(self._window.cut(self._stored(kind, plane), plane.subsampling_shift))

    @cached_property
    def _residuals(self) -> dict[str, Tensor]:
        """R_t by plane, (N, C, T, h, w) float32: shared by the clips of a student and its teacher."""
        cut = {plane.name: self._cut("residual", plane) for plane in self._planes}
        return {name: residual.transpose(1, 2).float() * self._step for name, residual in cut.items()}

    def _warp(self, iframe: Tensor, shift: int) -> Tensor:
        """U_0(p - D_t(p)) within the window, (N, C, T, h, w); look-ups of subsampled planes as DESIGN 2 has them."""
        rows, columns = self._look_up(1 << shift)
        look_up = (rows >> shift) * iframe.shape[-1] + (columns >> shift)
        places = look_up.flatten(1).unsqueeze(1).expand(-1, iframe.shape[1], -1)
        warped = iframe.flatten(2).gather(2, places).reshape(*iframe.shape[:2], *look_up.shape[1:])
        return self._window.mirror(warped)


def _frames_to_rgb(planes: dict[str, Tensor]) -> Tensor:
    """RGB levels of frames, (N, 3, T, H, W), each product floored as FFmpeg's converter does."""
    if "rgb" in planes:
        return planes["rgb"].float()
    luma = ((planes["luma"] - 16.0) * (LUMA_GAIN / FRACTION)).floor_()
    blue, red = (planes["chroma"] - 128.0).chunk(2, dim=1)
    green = (blue * (CB_TO_G / FRACTION)).floor_() + (red * (CR_TO_G / FRACTION)).floor_()
    chroma = torch.cat([(red * (CR_TO_R / FRACTION)).floor_(), green, (blue * (CB_TO_B / FRACTION)).floor_()], dim=1)
    return _add_chroma(luma, chroma).clamp_(0, 255)


def _residuals_to_rgb(planes: dict[str, Tensor]) -> Tensor:
    """The linear part of the conversion, (N, 3, T, H, W), clamped to -255..255."""
    if "rgb" in planes:
        return planes["rgb"]
    blue, red = planes["chroma"].chunk(2, dim=1)
    chroma = torch.cat([red * CR_TO_R, blue * CB_TO_G + red * CR_TO_G, blue * CB_TO_B], dim=1) / FRACTION
    return _add_chroma(planes["luma"] * (LUMA_GAIN / FRACTION), chroma).clamp_(-255, 255)


def _add_chroma(luma: Tensor, chroma: Tensor) -> Tensor:
    """Sum of luma (N, 1, T, H, W) and chroma (N, 3, T, H/2, W/2), whose samples cover 2x2 pixels each."""
    *lead, height, width = luma.shape
    quads = luma.reshape(*lead, height // 2, 2, width // 2, 2)
    return (quads + chroma.unsqueeze(-1).unsqueeze(-3)).flatten(-2).flatten(-3, -2)


def _normalise(parts: Sequence[Tensor], name: str, out: Tensor) -> None:
    """The parts of a clip one after the other into `out`, (N, C, T, H, W), as the network is fed."""
    is_motion = CLIP_FORMATS[name].source == "motion"
    mean, scale = ((0.0, 0.0), MOTION_SCALE) if is_motion else (RGB_MEAN, RGB_SCALE)
    means = torch.tensor(mean, device=out.device).view(-1, 1, 1, 1)
    for part, slots in zip(parts, torch.split(out, [part.shape[2] for part in parts], dim=2), strict=True):
        torch.sub(part, means, out=slots)
    out *= scale
