"""Peers of `mfcd-bench load` that decode the encoded files themselves, each on one thread."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from mfcd_prep.gops import GopTracer, iter_gops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from mfcd_core.store.settings import StoreSettings

ON_THE_FLY, TORCHCODEC, DECORD = "PyAV, traced on the fly", "torchcodec, RGB", "decord, RGB"


def build_decoders(paths: Sequence[Path], settings: StoreSettings) -> dict[str, Callable[[], int] | str]:
    """What decodes all of `paths` from beginning to end, by name, and returns frames; or why it does not run.

    Whole files in order are the best case of a decoder: it never seeks, and opens each file once for all its clips.
    """
    found = {name: _why_not(partial(work, paths[:1])) or partial(work, paths) for name, work in RGB_DECODERS.items()}
    return {ON_THE_FLY: partial(trace_on_the_fly, paths, settings), **found}


def trace_on_the_fly(paths: Iterable[Path], settings: StoreSettings) -> int:
    """I-frames, accumulated residuals and motion of every GOP, in buffers that are used again; nothing is stored."""
    tracer = GopTracer(settings)
    return settings.gop_size * sum(1 for path in paths for _ in iter_gops(path, settings, tracer))


def _read_with_torchcodec(paths: Iterable[Path]) -> int:
    decoder: Any = importlib.import_module("torchcodec.decoders").VideoDecoder
    return sum(len(decoder(str(path), num_ffmpeg_threads=1)[:]) for path in paths)


def _read_with_decord(paths: Iterable[Path]) -> int:
    reader: Any = importlib.import_module("decord").VideoReader
    num_frames = 0
    for path in paths:
        video = reader(str(path), num_threads=1)
        num_frames += len(video.get_batch(range(len(video))).asnumpy())
    return num_frames


RGB_DECODERS: dict[str, Callable[[Sequence[Path]], int]] = {
    TORCHCODEC: _read_with_torchcodec,
    DECORD: _read_with_decord,
}


def _why_not(try_out: Callable[[], object]) -> str:
    """Why a decoder does not run, in one line; empty where it does."""
    try:
        try_out()
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # noqa: BLE001 - whatever a foreign package raises is the answer
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ""
