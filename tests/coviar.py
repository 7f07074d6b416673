"""CoViAR's accumulation of motion vectors, pixel by pixel as its loader does it: a witness for the `integer` trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray


def accumulate(
    frames: Iterable[NDArray[Any]], size: tuple[int, int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Accumulated motion of each P-frame, (2, H, W), order (dy, dx), and where a chain of sources left the picture.

    The codec's `src - dst` is the vector; blocks are painted in listed order; a pixel takes over what its source had
    accumulated one frame before; a source outside the picture is skipped, and the old value stays.
    """
    height, width = size
    grid = np.indices(size)
    sources, left = grid.copy(), np.zeros(size, bool)
    for vectors in frames:
        before, left_before = sources.copy(), left.copy()
        for vector in vectors:
            up, along = int(vector["src_y"]) - int(vector["dst_y"]), int(vector["src_x"]) - int(vector["dst_x"])
            top, start = int(vector["dst_y"]) - int(vector["h"]) // 2, int(vector["dst_x"]) - int(vector["w"]) // 2
            for y in range(max(top, 0), min(top + int(vector["h"]), height)):
                for x in range(max(start, 0), min(start + int(vector["w"]), width)):
                    if 0 <= y + up < height and 0 <= x + along < width:
                        sources[:, y, x] = before[:, y + up, x + along]
                        left[y, x] = left_before[y + up, x + along]
                    else:
                        left[y, x] = True
        yield grid - sources, left.copy()
