"""Teacher and student are fed the same GOP, crop and flip: one clip is rebuilt from the other, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clips import in_levels
from tiny_runs import SIDE_PX, write_tiny_store

from mfcd_core.store import Store
from mfcd_train.models.mfnet3d import MFNet3D
from mfcd_train.runlog import open_run
from mfcd_train.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from mfcd_train.dataset import Draws

    Levels = NDArray[np.float64]
from training import train

EPOCHS = 3
MAX_OFF = 0.01  # levels of 255: float32 there and back


@dataclass
class Fed:
    """What both networks were fed in training, sample by sample: draws, and clips (T, H, W, C) in levels."""

    draws: list[Draws] = field(default_factory=list)
    teacher: list[Levels] = field(default_factory=list)
    student: list[Levels] = field(default_factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        losses, forward = Trainer._losses, MFNet3D.forward_with_hints
        seen: list[Tensor] = []

        def watched_losses(subject: Trainer, batch: Any) -> Any:  # noqa: ANN401
            seen.clear()
            found = losses(subject, batch)
            teacher, student = (in_levels(x, "rgb") for x in seen)
            self.draws += [batch.draws[i : i + 1] for i in range(len(batch.labels))]
            self.teacher += list(teacher)
            self.student += list(student)
            return found

        def watched_forward(subject: MFNet3D, x: Tensor) -> Any:  # noqa: ANN401
            seen.append(x.detach().clone())
            return forward(subject, x)

        monkeypatch.setattr(Trainer, "_losses", watched_losses)
        monkeypatch.setattr(MFNet3D, "forward_with_hints", watched_forward)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RGB planes without loss, so that Eq. 2 holds to the level."""
    return write_tiny_store(tmp_path_factory.mktemp("exact"), pixel_format="rgb24", residual_step=1)


def off(store: Store, draws: Draws, student: Levels, teacher: Levels) -> tuple[float, float]:
    """Largest |U_0(p - D_t(p)) + R_t(p) - U_t(p)|, U_0 and R from one clip and U_t from the other; share of pixels.

    Compared where p - D_t(p) is within the crop. D_t is the store's, in the whole frame; Eq. 3 gives R.
    """
    crop = student.shape[1]
    video = int(draws.video[0])
    gop = store.read_gop(str(store.videos.ids[video]), int(draws.gop[0] - store.videos.first_gop[video]))
    room = (SIDE_PX - crop) // 2
    top, left = (2 * round(float(place[0]) * room) for place in (draws.top, draws.left))
    if draws.flip[0]:
        student, teacher = student[:, :, ::-1], teacher[:, :, ::-1]
    first, residuals = student[0], 2 * student[1:] - student[0]
    place = np.stack(np.meshgrid(np.arange(crop), np.arange(crop), indexing="ij"))
    errors = []
    for motion, residual, frame in zip(gop.motion, residuals, teacher[1:], strict=True):
        row, column = place - motion[:, top : top + crop, left : left + crop]
        inside = (row >= 0) & (row < crop) & (column >= 0) & (column < crop)
        rebuilt = first[row[inside], column[inside]] + residual[inside]
        errors.append(np.abs(rebuilt - frame[inside]).max(axis=1))
    found = np.concatenate(errors)
    return float(found.max()), len(found) / residuals[..., 0].size


def test_the_teachers_clip_is_rebuilt_from_the_students(
    store: Path, student_recipe: Path, teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, fed = Store(store), Fed()
    fed.watch(monkeypatch)
    done = train(store, student_recipe, tmp_path, "--teacher", teacher_run, "--set", f"optim.epochs={EPOCHS}")
    assert done.status == 0, done.err
    assert len(fed.draws) == 6 * EPOCHS
    assert open_run(tmp_path).recipe.data.clip_format == "augmented"
    for draws, student, teacher in zip(fed.draws, fed.student, fed.teacher, strict=True):
        assert np.abs(student[0] - teacher[0]).max() < MAX_OFF
        error, share = off(opened, draws, student, teacher)
        assert error < MAX_OFF
        assert share > 0.3
    flips = [bool(draws.flip[0]) for draws in fed.draws]
    corners = {(float(draws.top[0]), float(draws.left[0])) for draws in fed.draws}
    assert 3 < sum(flips) < len(flips) - 3
    assert len(corners) == len(fed.draws)
    assert_told_apart(opened, fed)


def assert_told_apart(store: Store, fed: Fed) -> None:
    """Another clip, another crop, another flip, another frame: each would have been seen."""
    for draws, student, teacher in zip(fed.draws, fed.student, fed.teacher, strict=True):
        others = [other for other in fed.teacher if not np.array_equal(other, teacher)]
        wrong = [*others, teacher[:, :, ::-1], np.roll(teacher, 2, axis=1), np.roll(teacher, 2, axis=2)]
        wrong += [np.concatenate([teacher[:1], teacher[2:], teacher[1:2]])]
        assert min(off(store, draws, student, clip)[0] for clip in wrong) > 100 * MAX_OFF
