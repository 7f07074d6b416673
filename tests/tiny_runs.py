"""A tiny store of moving pictures, recipes that fit it, and commands run as a user runs them."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
import tomli_w
from synthetic import encode, pan, trace_file, write_store

from mfcd_core.store.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIDE_PX = 32
MOTIONS = {"down": (1.5, 0.0), "right": (0.0, 1.5)}  # pixels a frame
TINTS = {"down": (1.0, 0.8, 0.6), "right": (0.6, 0.8, 1.0)}
NUM_GOPS = (2, 1, 3, 2)
"""GOPs of the four videos of each class; the last one of each is a test video."""

TEACHER: dict[str, dict[str, Any]] = {
    "data": {"clip_format": "rgb", "frame_size": SIDE_PX, "crop_size": 28, "batch_size": 2},
    "model": {"width": 0.25, "depth": [1, 1, 1, 1]},
    "optim": {"learning_rate": 0.05, "epochs": 4, "schedule": "cosine"},
    "run": {"num_threads": 1, "tensorboard": False, "report": False},
}
STUDENT: dict[str, dict[str, Any]] = {
    **TEACHER,
    "data": {**TEACHER["data"], "clip_format": "augmented"},
    "distill": {"hint_weight": 0.1, "soft_weight": 0.5},
}
STEPS_AN_EPOCH = 3  # six training videos, two a batch


def moving_picture(motion: str, num_frames: int, seed: int) -> NDArray[np.uint8]:
    """RGB frames (T, H, W, 3) of a texture that moves, in the tint of its class."""
    grey = pan(num_frames, *MOTIONS[motion], size=(SIDE_PX, SIDE_PX), seed=seed)
    return (grey[..., None] * np.array(TINTS[motion])).round().astype(np.uint8)


def write_tiny_store(folder: Path, classes: Sequence[str] = ("down", "right"), **settings: Any) -> Path:  # noqa: ANN401
    """Two classes of four videos, three to train and one to test with; returns the store in `folder`."""
    stored, videos = StoreSettings(SIDE_PX, SIDE_PX, **settings), {}
    for row, (motion, name) in enumerate(zip(MOTIONS, classes, strict=True)):
        for number, num_gops in enumerate(NUM_GOPS):
            video_id = f"{name}/{number}"
            frames = moving_picture(motion, 12 * num_gops, seed=10 * row + number)
            videos[video_id] = trace_file(encode(folder / "encoded" / f"{video_id}.mp4", frames), stored)
    roles = {"train": [i for i in videos if i[-1] != "3"], "test": [i for i in videos if i[-1] == "3"]}
    return write_store(folder / "store", stored, videos, {"only": roles}, videos_per_shard=3)


def write_recipe(path: Path, recipe: dict[str, dict[str, Any]]) -> Path:
    """A recipe as TOML; returns `path`."""
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Outcome:
    """What a command came to: exit status, and what it printed on stdout and stderr."""

    status: object
    out: str
    err: str


def run_command(main: Callable[[], None], *arguments: object) -> Outcome:
    """Run the entry point of a command in this process."""
    out, err = StringIO(), StringIO()
    command_line = patch.object(sys, "argv", ["mfcd", *map(str, arguments)])
    with command_line, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main()
    return Outcome(left.value.code, out.getvalue(), err.getvalue())
