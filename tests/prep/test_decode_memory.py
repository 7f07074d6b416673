"""Pictures are let go as soon as nobody holds them, without waiting for the garbage collector."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import av
import pytest

from mfcd_prep.audit import iter_pictures
from mfcd_prep.decode import DECODERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_garbage_collector() -> Iterator[None]:
    """Nor does anyone look at what was there before: it may be millions of things."""
    gc.collect()
    gc.disable()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.enable()


def num_pictures() -> int:
    """By type: asking some libraries' lazy objects for their class warns."""
    return sum(issubclass(type(thing), av.VideoFrame) for thing in gc.get_objects())


def test_decoded_pictures_are_let_go(encoded_once: Path) -> None:
    before = num_pictures()
    for frame in DECODERS["pyav"].iter_frames(encoded_once / "run" / "d.mp4", "yuv420p", "subpel"):
        assert num_pictures() <= before + 3, "this one, the one before it, and the decoder's"
        assert frame.picture_type in "IP"
    del frame
    assert num_pictures() == before


def test_audited_pictures_are_let_go(encoded_once: Path) -> None:
    before = num_pictures()
    assert sum(1 for _ in iter_pictures(encoded_once / "run" / "d.mp4", "yuv420p")) == 36
    assert num_pictures() == before
