"""Which pixels of its stored pictures each sample of a batch takes: cropped, mirrored and traced by one `gather`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Pixels that each sample takes of its picture: rows (N, H) and columns (N, W), which fall if it is mirrored."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    picture_width: int
    device: torch.device

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows.shape[1], self.columns.shape[1]

    def of_plane(self, shift: int) -> Window:
        """The samples of a plane that is subsampled by 2^shift: one a row there, but still one for each column."""
        rows, columns = self.rows[:, :: 1 << shift] >> shift, self.columns >> shift
        return Window(rows, columns, self.picture_width >> shift, self.device)

    def of_luma(self, shift: int) -> Window:
        """The luma that the samples of such a plane begin at."""
        return Window(self.rows << shift, self.columns << shift, self.picture_width << shift, self.device)

    def places(self, dtype: torch.dtype) -> Tensor:
        """Row and column of each pixel, (N, 2, 1, H, W)."""
        return torch.cat([axis.to(dtype).expand(-1, -1, -1, *self.size) for axis in self._axes], 1)

    def take(self, pictures: Tensor) -> Tensor:
        """These pixels, (N, C, T, H, W), of whole pictures (N, T, C, h, w)."""
        return gather_pixels(pictures, self._numbers)

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        """Rows (N, 1, 1, H, 1) and columns (N, 1, 1, 1, W)."""
        rows, columns = (torch.from_numpy(axis).to(self.device) for axis in (self.rows, self.columns))
        return rows[:, None, None, :, None], columns[:, None, None, None]

    @cached_property
    def _numbers(self) -> Tensor:
        return number_pixels(*self._axes, self.picture_width)


def number_pixels(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Numbers of the pixels of a picture, row by row, from 0."""
    return torch.add(columns, rows, alpha=width)


def gather_pixels(pictures: Tensor, numbers: Tensor) -> Tensor:
    """Pixels (N, C, T, H, W) of whole pictures (N, T, C, h, w) by numbers (N, T, 1, H, W), int64; either T may be 1."""
    pixels, wanted = pictures.flatten(-2), numbers.flatten(-2)
    num_frames = max(pixels.shape[1], wanted.shape[1])
    pixels = pixels.expand(-1, num_frames, -1, -1)
    found = pixels.gather(-1, wanted.expand(*pixels.shape[:-1], -1))
    return found.view(*found.shape[:-1], *numbers.shape[-2:]).transpose(1, 2)
