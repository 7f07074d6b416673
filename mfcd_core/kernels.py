"""Compiling kernels with numba, also where no cache folder is writable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

Kernel = TypeVar("Kernel", bound="Callable[..., Any]")


def jit(kernel: Kernel) -> Kernel:
    """Compile `kernel` on first call, without the GIL, cached on disk where some folder is writable."""
    try:
        return cast("Kernel", numba.njit(nogil=True, cache=True)(kernel))
    except RuntimeError:  # no locator: a read-only install without a writable home
        return cast("Kernel", numba.njit(nogil=True)(kernel))


def load_numba() -> None:
    """Load now what numba itself loads when the first kernel is called: 72 modules of its own, and LLVM."""
    _nothing()


@jit
def _nothing() -> None:
    pass


def is_cached(kernel: Kernel) -> bool:
    """Whether the cache has a form of `kernel` as it now reads; True where there is no cache to be filled."""
    folder = cast("Any", kernel).stats.cache_path
    source = Path(kernel.__code__.co_filename)
    indexes = Path(folder or ".").glob(f"{source.stem}.{kernel.__qualname__}-*.nbi")
    return folder is None or any(index.stat().st_mtime >= source.stat().st_mtime for index in indexes)


def inlined(kernel: Kernel) -> Kernel:
    """A part of kernels, compiled into each of them: a call with arrays costs as much as sixteen pixels."""
    return cast("Kernel", numba.njit(inline="always")(kernel))
