"""The vocabulary of codec motion: how vectors are traced, and the unit of displacements (DESIGN 2, trace)."""

from __future__ import annotations

import numpy as np

QUARTER = 4  # displacements and sources are whole numbers of quarter pixels
TRACES = ("subpel", "integer")
NO_BLOCKS = np.empty((0, 6), np.int32)  # see `blocks_from_vectors`
