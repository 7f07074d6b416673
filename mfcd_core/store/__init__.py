"""The store: shards of HDF5, an index, and a reader that needs neither numba nor torch (DESIGN 4, 5)."""

from mfcd_core.store.reader import Store

__all__ = ["Store"]
