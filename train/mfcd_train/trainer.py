"""One training loop for teacher and student, from top to bottom."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import progress as show_progress
from mfcd_core.console import warn
from mfcd_core.errors import MfcdError
from mfcd_train.assemble import build_assembler
from mfcd_train.checkpoint import Progress, save_checkpoint
from mfcd_train.dataset import evaluation_draws, split_rows, training_draws
from mfcd_train.evaluator import predict
from mfcd_train.loader import iter_batches
from mfcd_train.losses import cross_entropy, hint_losses, soft_loss, total_loss
from mfcd_train.metrics import topk_accuracy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_fabric import Fabric
    from torch import Tensor
    from torch.optim import Optimizer

    from mfcd_core.console import Advance
    from mfcd_core.store import Store
    from mfcd_train.config import Recipe
    from mfcd_train.dataset import Draws
    from mfcd_train.loader import Batch
    from mfcd_train.models.mfnet3d import MFNet3D
    from mfcd_train.runlog import RunLog

LOG_EVERY_STEPS = 10
TEACHER_FORMAT = "rgb"


class DivergedError(MfcdError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Trainer:
    """All that a run needs; `model` and `optimizer` are set up by `fabric`, `teacher` is in eval mode or absent."""

    fabric: Fabric
    store: Store
    run: RunLog
    model: MFNet3D
    optimizer: Optimizer
    teacher: MFNet3D | None

    def fit(self, progress: Progress) -> Progress:
        """Train from `progress` to the recipe's last epoch, with a checkpoint after every epoch and in between."""
        recipe, rows = self.recipe, split_rows(self.store, self.recipe.data.split)
        self.run.forget_after(progress)
        with show_progress("training", recipe.optim.epochs, "epochs") as advance:
            advance(progress.epoch)
            for epoch in range(progress.epoch, recipe.optim.epochs):
                draws = training_draws(self.store, rows["train"], self.seed, epoch, recipe.data.flip)
                progress = self._train_epoch(draws, progress, advance)
                record: dict[str, float] = {"step": progress.step, "epoch": epoch + 1}
                if (epoch + 1) % recipe.run.validate_every == 0 or epoch + 1 == recipe.optim.epochs:
                    record |= self._validate(rows["test"])
                progress = Progress(epoch + 1, 0, progress.step)
                self.run.append(record)  # first: a kill in between repeats both
                self._save(progress)
        return progress

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.run.recipe

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.run.facts["seed"])

    def _train_epoch(self, draws: Draws, progress: Progress, advance: Advance) -> Progress:
        saved, num_skipped = time.monotonic(), 0
        batch_size = self.recipe.data.batch_size
        num_batches = max(len(draws) // batch_size, 1)  # an incomplete one is left out, unless it is all there is
        for batch, waited_seconds in _timed(self._batches(draws[: num_batches * batch_size], progress.batch)):
            start = time.monotonic()
            record = self._train_step(batch, progress, num_batches)
            progress = replace(progress, batch=progress.batch + 1, step=progress.step + 1)
            num_skipped += batch.num_skipped
            if progress.step % LOG_EVERY_STEPS == 0:
                seconds = time.monotonic() - start + waited_seconds
                record |= {"clips_per_second": len(batch.labels) / seconds, "data_wait": waited_seconds / seconds}
                record |= {"skipped_gops": num_skipped} if num_skipped else {}
                self.run.append({"step": progress.step, "epoch": progress.epoch, **_numbers(record)})
            advance(1 / num_batches, f"loss {float(record['loss/total']):.3f}")
            if time.monotonic() - saved > self.recipe.run.checkpoint_seconds:
                self._save(progress)
                saved = time.monotonic()
        if num_skipped:
            warn(f"epoch {progress.epoch + 1}: {num_skipped} GOPs could not be read and were left out")
        return progress

    def _batches(self, draws: Draws, first: int) -> Iterator[Batch]:
        with_motion = any(CLIP_FORMATS[name].needs_motion for name in self._formats)
        recipe = self.recipe
        return iter_batches(
            self.store,
            draws,
            recipe.data.batch_size,
            with_motion=with_motion,
            num_threads=recipe.run.loader_threads,
            start=first,
            on_bad_gop=recipe.run.on_bad_gop,
        )

    @property
    def _formats(self) -> tuple[str, ...]:
        own = self.recipe.data.clip_format
        return (own,) if self.teacher is None else tuple(dict.fromkeys((own, TEACHER_FORMAT)))

    def _train_step(self, batch: Batch, progress: Progress, num_batches: int) -> dict[str, Any]:
        rate = self.recipe.optim.rate_at(progress.epoch + progress.batch / num_batches)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        losses, logits = self._losses(batch)
        if not torch.isfinite(losses["loss/total"]):
            videos = ", ".join(str(self.store.videos.ids[row]) for row in batch.draws.video[:4])
            raise self._diverged(f"loss is not a number at step {progress.step} (videos {videos} ...)")
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(losses["loss/total"])
        self.optimizer.step()
        top1 = (logits.detach().argmax(1).cpu() == batch.labels.cpu()).float().mean()
        return {**{name: loss.detach() for name, loss in losses.items()}, "clip/top1": top1, "learning_rate": rate}

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Eq. 8, or cross entropy alone without a teacher."""
        batch = batch.to(self.fabric.device)
        clips = build_assembler(self.store, self.recipe)(batch, self._formats)
        own = clips[self.recipe.data.clip_format].contiguous(memory_format=torch.channels_last_3d)
        if self.teacher is None:
            logits = self.model(own)
            ce = cross_entropy(logits, batch.labels)
            return {"loss/ce": ce.detach(), "loss/total": ce}, logits
        distill = self.recipe.distill
        with torch.no_grad():
            seen = clips[TEACHER_FORMAT].contiguous(memory_format=torch.channels_last_3d)
            teacher_logits, teacher_hints = self.teacher.forward_with_hints(seen)
        logits, hints = self.model.forward_with_hints(own)
        ce = cross_entropy(logits, batch.labels)
        hint = hint_losses(hints, teacher_hints, distill.hint_layers, distill.hint_reduction)
        soft = soft_loss(logits, teacher_logits, distill.temperature, distill.soft_direction)
        return total_loss(ce, hint, soft, distill.hint_weight, distill.soft_weight), logits

    def _validate(self, rows: Any) -> dict[str, float]:  # noqa: ANN401
        """One centre clip a video."""
        draws = evaluation_draws(self.store, rows, 1, self.seed, "spread")
        scores = predict(self.fabric, self.model, self.store, self.recipe, draws)
        labels = self.store.videos.labels[draws.video]
        return {"validation/clip/top1": topk_accuracy(scores, labels, 1)}

    def _save(self, progress: Progress) -> None:
        weights = self.model.state_dict()
        broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
        if broken:
            raise self._diverged(f"weights are not numbers after step {progress.step} (the first is {broken[0]})")
        save_checkpoint(self.run.folder, weights, self.optimizer.state_dict(), progress)

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"{what}: lower optim.learning_rate; the last checkpoint in {self.run.folder}, if any, is from before"
        )


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    while True:
        start = time.monotonic()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.monotonic() - start


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in record.items()}
