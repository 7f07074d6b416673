"""Compiling kernels with numba, also where no cache folder is writable."""

from __future__ import annotations

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


def inlined(kernel: Kernel) -> Kernel:
    """A part of kernels, compiled into each of them: a call with arrays costs as much as sixteen pixels."""
    return cast("Kernel", numba.njit(inline="always")(kernel))
