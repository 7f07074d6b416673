"""Compiling kernels with numba, also where no cache folder is writable."""

from __future__ import annotations

from contextlib import suppress
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
    """Whether the cache has a form of `kernel` as it now reads; True where there is no cache to be filled.

    False, too, where the source was written later, though with the same text: see `mark_cached`.
    """
    folder, source = cast("Any", kernel).stats.cache_path, Path(kernel.__code__.co_filename)
    return folder is None or any(i.stat().st_mtime >= source.stat().st_mtime for i in _indexes(folder, kernel))


def mark_cached(kernel: Kernel) -> None:
    """Say, where the cache is ours to write, that it was looked at after the source was written."""
    for index in _indexes(cast("Any", kernel).stats.cache_path, kernel):
        with suppress(OSError):
            index.touch()


def _indexes(folder: str, kernel: Kernel) -> list[Path]:
    return list(Path(folder).glob(f"{Path(kernel.__code__.co_filename).stem}.{kernel.__qualname__}-*.nbi"))


def inlined(kernel: Kernel) -> Kernel:
    """A part of kernels, compiled into each of them: a call with arrays costs as much as sixteen pixels."""
    return cast("Kernel", numba.njit(inline="always")(kernel))
