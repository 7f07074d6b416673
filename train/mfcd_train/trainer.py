"""One training loop for teacher and student, from top to bottom."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from mfcd_core.clip import CLIP_FORMATS
from mfcd_core.console import progress as show_progress
from mfcd_core.console import say, warn
from mfcd_train.assemble import build_assembler
from mfcd_train.checkpoint import (
    BEST,
    UNAVERAGED,
    Progress,
    describe_checkpoint,
    keep_checkpoint,
    keep_epoch,
    save_checkpoint,
)
from mfcd_train.dataset import evaluation_draws, split_rows, training_draws
from mfcd_train.evaluator import predict
from mfcd_train.loader import iter_batches
from mfcd_train.losses import DivergedError, cross_entropy, hint_losses, soft_loss, total_loss
from mfcd_train.metrics import mean_cross_entropy, topk_accuracy
from mfcd_train.pace import Pace, progress_note, timed
from mfcd_train.preemption import PreemptedError, Stop
from mfcd_train.runlog import VALIDATION_CE, VALIDATION_TOP1, VALIDATION_TOP5, as_validation
from mfcd_train.schedule import best_epoch, is_over, num_plateaus
from mfcd_train.sharing import any_process, count_steps, means, name_gops, part_rows, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_fabric import Fabric
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.swa_utils import AveragedModel

    from mfcd_core.console import Advance
    from mfcd_core.store import Store
    from mfcd_train.config import Recipe
    from mfcd_train.dataset import Draws
    from mfcd_train.loader import Batch
    from mfcd_train.models import Network
    from mfcd_train.models.mfnet3d import MFNet3D
    from mfcd_train.runlog import RunLog
    from mfcd_train.schedule import Validation
    from mfcd_train.watchers import Watcher

LOG_EVERY_STEPS = 10
TEACHER_FORMAT = "rgb"
SKIPPED = "skipped_gops"


@dataclass(frozen=True)
class Trainer:
    """All that a run needs, in each of the processes that train together.

    network: the plain network. model: the same, set up by `fabric` with `optimizer`, for steps. average: the moving
    average of its weights, or absent. teacher: in eval mode, or absent. watchers: shown what metrics.jsonl is told.
    stop: whether SIGTERM came. validations: of the epochs so far.
    """

    fabric: Fabric
    store: Store
    run: RunLog
    network: Network
    model: Any
    optimizer: Optimizer
    average: AveragedModel | None = None
    teacher: MFNet3D | None = None
    watchers: Sequence[Watcher] = ()
    stop: Stop = field(default_factory=Stop)
    validations: list[Validation] = field(default_factory=list)

    def fit(self, progress: Progress) -> Progress:
        """Train from `progress` to the recipe's last epoch, with a checkpoint after every epoch and in between.

        Raises PreemptedError, with everything saved, after SIGTERM.
        """
        recipe, rows = self.recipe, split_rows(self.store, self.recipe.data.split)
        self._recall(progress)
        if not self._is_done(progress):
            self._validate(rows["test"], progress, num_batches=2)  # a wrong set-up ends in seconds, not after an epoch
        with self._progress_shown() as advance:
            advance(progress.epoch + progress.batch / count_steps(len(rows["train"]), recipe.data.batch_size))
            while not self._is_done(progress):
                draws = training_draws(self.store, rows["train"], self.seed, progress.epoch, recipe.data.flip)
                progress, skipped = self._train_epoch(draws, progress, advance)
                record: dict[str, float] = {"step": progress.step, "epoch": progress.epoch + 1, **skipped}
                if (progress.epoch + 1) % recipe.run.validate_every == 0 or progress.epoch + 1 == recipe.optim.epochs:
                    record |= self._validate(rows["test"], progress)
                    self.validations.append(as_validation(record))
                progress = Progress(progress.epoch + 1, 0, progress.step)
                self._record(record)  # first: a kill in between repeats both
                self._save(progress)
                self._keep(progress)
        if progress.epoch < recipe.optim.epochs:
            say(f"no better validation in {recipe.optim.early_stop} epochs (optim.early_stop): training has ended")
        return progress

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.run.recipe

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.run.facts["seed"])

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return bool(self.fabric.is_global_zero)

    @property
    def evaluated(self) -> Network:
        """The network that is validated and saved to be used."""
        return self.network if self.average is None else self.average.module  # type: ignore[return-value]

    def _recall(self, progress: Progress) -> None:
        """Bring records and kept checkpoints to where the checkpoint is; tell all processes how validations went."""
        if self.is_first:
            self.run.forget_after(progress)
        self.validations[:] = self.fabric.broadcast(self.run.read_validations() if self.is_first else [])
        if progress.epoch and not progress.batch:
            self._keep(progress)

    def _is_done(self, progress: Progress) -> bool:
        return is_over(self.recipe.optim, progress.epoch, self.validations)

    def _train_epoch(self, draws: Draws, progress: Progress, advance: Advance) -> tuple[Progress, dict[str, float]]:
        """Where it ended, and how many GOPs were skipped by all processes since it began or was resumed, if any."""
        saved, num_skipped, pace = time.monotonic(), 0, Pace()
        num_steps = count_steps(len(draws), self.recipe.data.batch_size)
        for parts, waited_seconds in timed(self._iter_parts(draws, progress.batch)):
            record = self._train_step(parts, progress, num_steps)
            progress = replace(progress, batch=progress.batch + 1, step=progress.step + 1)
            num_skipped += sum(part.num_skipped for part in parts)
            pace.add(sum(len(part.labels) for part in parts) * self.fabric.world_size, waited_seconds)
            advance(1 / num_steps, progress_note(record, pace.rates()))
            if progress.step % LOG_EVERY_STEPS == 0 or progress.batch == num_steps:
                averages = {**means(self.fabric, record), **self._count(num_skipped), **pace.rates()}
                self._record({"step": progress.step, "epoch": progress.epoch, **averages})
                pace = Pace()
            is_asked = any_process(self.fabric, self.stop.asked)
            is_due = time.monotonic() - saved > self.recipe.run.checkpoint_seconds
            if is_asked or is_due or progress.batch == num_steps:
                self._require_whole_weights(parts, progress)
            if is_asked:
                raise self._preempted(progress)
            if is_due:
                self._save(progress)
                saved = time.monotonic()
        skipped = self._count(num_skipped)
        if skipped and self.is_first:
            warn(f"epoch {progress.epoch + 1}: {skipped[SKIPPED]} GOPs could not be read and were left out")
        return progress, skipped

    def _count(self, num_skipped: int) -> dict[str, float]:
        everywhere = total(self.fabric, num_skipped)
        return {SKIPPED: everywhere} if everywhere else {}

    def _iter_parts(self, draws: Draws, first_step: int) -> Iterator[list[Batch]]:
        """For each step from `first_step` on, this process's share of its batch, in `optim.accumulate` parts."""
        num_parts, peers = self.recipe.optim.accumulate, self.fabric.world_size
        rows = part_rows(len(draws), self.recipe.data.batch_size, num_parts, self.fabric.global_rank, peers)
        batches = iter_batches(
            self.store,
            draws[rows.reshape(-1)],
            rows.shape[-1],
            with_motion=any(CLIP_FORMATS[name].needs_motion for name in self._formats),
            with_residual=any(CLIP_FORMATS[name].needs_residual for name in self._formats),
            num_threads=self.recipe.run.loader_threads,
            start=first_step * num_parts,
            on_bad_gop=self.recipe.run.on_bad_gop,
        )
        while parts := list(islice(batches, num_parts)):
            yield parts

    @property
    def _formats(self) -> tuple[str, ...]:
        own = self.recipe.data.clip_format
        return (own,) if self.teacher is None else tuple(dict.fromkeys((own, TEACHER_FORMAT)))

    def _train_step(self, parts: Sequence[Batch], progress: Progress, num_steps: int) -> dict[str, Any]:
        optim = self.recipe.optim
        plateaus = num_plateaus(self.validations, optim.plateau_epochs)
        rate = optim.rate_at(progress.epoch + progress.batch / num_steps, plateaus)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        records = [self._add_gradients(part, len(parts), is_last=part is parts[-1]) for part in parts]
        record = {name: torch.stack([record[name] for record in records]).mean() for name in records[0]}
        longest = optim.clip_norm or torch.inf
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=longest, error_if_nonfinite=False)
        self._require_numbers(record["loss/total"], norm, parts, progress)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return {**record, "gradient_norm": norm, "learning_rate": rate}

    def _add_gradients(self, batch: Batch, num_parts: int, *, is_last: bool) -> dict[str, Tensor]:
        with self.fabric.no_backward_sync(self.model, enabled=not is_last):
            losses, logits = self._losses(batch)
            self.fabric.backward(losses["loss/total"] / num_parts)
        top1 = (logits.detach().argmax(1) == batch.labels.to(logits.device)).float().mean()
        return {**{name: loss.detach() for name, loss in losses.items()}, "clip/top1": top1}

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Eq. 8, or cross entropy alone without a teacher."""
        batch = batch.to(self.fabric.device)
        smoothing, distill = self.recipe.optim.label_smoothing, self.recipe.distill
        clips = build_assembler(self.store.settings, self.recipe.data)(batch, self._formats)
        own = clips[self.recipe.data.clip_format].contiguous(memory_format=torch.channels_last_3d)
        if self.teacher is None:
            logits = self.model(own)
            ce = cross_entropy(logits, batch.labels, smoothing)
            return {"loss/ce": ce.detach(), "loss/total": ce}, logits
        with torch.no_grad(), self.fabric.autocast():
            seen = clips[TEACHER_FORMAT].contiguous(memory_format=torch.channels_last_3d)
            teacher_logits, teacher_hints = self.teacher.forward_with_hints(seen)
        logits, hints = self.model.forward_with_hints(own)
        ce = cross_entropy(logits, batch.labels, smoothing)
        hint = hint_losses(hints, teacher_hints, distill.hint_layers, distill.hint_reduction)
        soft = soft_loss(logits, teacher_logits, distill.temperature, distill.soft_direction)
        return total_loss(ce, hint, soft, distill.hint_weight, distill.soft_weight), logits

    def _validate(self, rows: Any, progress: Progress, num_batches: int | None = None) -> dict[str, float]:  # noqa: ANN401
        """One centre clip a video."""
        draws = evaluation_draws(self.store, rows, 1, self.seed, "spread")
        draws = draws if num_batches is None else draws[: num_batches * self.recipe.data.batch_size]

        def advance(amount: float = 1, note: str = "") -> None:
            del amount, note
            if self.stop.asked:  # there may be seconds left: without waiting for the other processes
                raise self._preempted(progress)

        scores = predict(self.fabric, self.evaluated, self.store, self.recipe, draws, advance)
        labels = self.store.videos.labels[draws.video]
        top1, top5 = (topk_accuracy(scores, labels, k) for k in (1, 5))
        return {VALIDATION_TOP1: top1, VALIDATION_TOP5: top5, VALIDATION_CE: mean_cross_entropy(scores, labels)}

    def _record(self, record: dict[str, float]) -> None:
        if self.is_first:
            self.run.append(record)
            for watcher in self.watchers:
                watcher.try_show(record)

    def _save(self, progress: Progress) -> None:
        if self.is_first:
            more = {"precision": self.fabric.strategy.precision.state_dict()}
            more |= {} if self.average is None else {UNAVERAGED: self.network.state_dict()}
            save_checkpoint(self.run.folder, self.evaluated.state_dict(), self.optimizer.state_dict(), progress, **more)

    def _keep(self, progress: Progress) -> None:
        """Keep the checkpoint of an epoch's end: as the best one, and among the last ones."""
        if self.is_first:
            if best_epoch(self.validations) == progress.epoch:
                keep_checkpoint(self.run.folder, BEST)
            keep_epoch(self.run.folder, progress.epoch, self.recipe.run.keep_last)

    def _preempted(self, progress: Progress) -> PreemptedError:
        self._save(progress)
        return PreemptedError(f"stopped by SIGTERM with everything saved: {describe_checkpoint(self.run.folder)}")

    def _require_numbers(self, loss: Tensor, norm: Tensor | None, parts: Sequence[Batch], progress: Progress) -> None:
        scaled = self.recipe.run.precision == "16-mixed"  # its scaler leaves out steps with gradients too large
        is_loss = not bool(torch.isfinite(loss))
        if any_process(self.fabric, is_loss or not (scaled or norm is None or bool(torch.isfinite(norm)))):
            what = "loss is not a number" if is_loss else "gradients are not numbers"
            raise self._diverged(f"{what} at step {progress.step}", parts)

    def _require_whole_weights(self, parts: Sequence[Batch], progress: Progress) -> None:
        """Before any checkpoint: the last step may ruin weights after a loss and gradients that were fine."""
        broken = [name for name, weight in self.network.state_dict().items() if not weight.isfinite().all()]
        if broken:
            raise self._diverged(
                f"weights are not numbers after step {progress.step} (the first is {broken[0]})", parts
            )

    def _diverged(self, what: str, parts: Sequence[Batch]) -> DivergedError:
        fed, last = name_gops(self.store, [part.draws for part in parts]), describe_checkpoint(self.run.folder)
        todo = f"lower optim.learning_rate in another --out; the last good state is {last}"
        return DivergedError(f"{what} (fed: {fed}): {todo}")

    def _progress_shown(self) -> Any:  # noqa: ANN401 - a context manager that yields Advance
        if self.is_first:
            return show_progress("training", self.recipe.optim.epochs, "epochs")
        return nullcontext(lambda _amount=1, _note="": None)
