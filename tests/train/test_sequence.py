"""One sequence of samples from seed and epoch, whatever reads it: threads, processes, resumed runs."""

from __future__ import annotations

import itertools
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from feeding import Notes, read_notes, samples, train_and_evaluate
from synthetic import random_gop, write_store
from tiny_runs import STEPS_AN_EPOCH, TEACHER, write_recipe
from training import interrupt_at_step, train

from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_train import loader
from mfcd_train.build import build_fabric, load_model
from mfcd_train.dataset import Draws, evaluation_draws, split_rows, training_draws
from mfcd_train.evaluator import predict
from mfcd_train.loader import iter_batches
from mfcd_train.runlog import open_run
from mfcd_train.sharing import dealt_rows, part_rows

if TYPE_CHECKING:
    from feeding import Fed
    from numpy.typing import NDArray

TESTS = Path(__file__).parents[1]
NUM_EPOCHS, NUM_TRAIN, NUM_TEST, NUM_CLIPS, BATCH_SIZE = 2, 13, 7, 5, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in two classes: three whole steps an epoch and a rest; two batches to validate, nine to evaluate."""
    settings, random = StoreSettings(32, 32), np.random.default_rng(0)
    ids = [f"{'down' if number % 2 else 'right'}/{number:02}" for number in range(NUM_TRAIN + NUM_TEST)]
    videos = {i: [random_gop(settings, random) for _ in range(1 + number % 3)] for number, i in enumerate(ids)}
    splits = {"s": {"train": ids[:NUM_TRAIN], "test": ids[NUM_TRAIN:]}}
    return write_store(tmp_path_factory.mktemp("sequence") / "store", settings, videos, splits, videos_per_shard=3)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changed = {
        "data": {**TEACHER["data"], "batch_size": BATCH_SIZE},
        "optim": {**TEACHER["optim"], "epochs": NUM_EPOCHS},
    }
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.toml", {**TEACHER, **changed})


def sequence(store: Store, epoch: int, seed: int = 0) -> Draws:
    return training_draws(store, split_rows(store, "")["train"], seed, epoch, 0.5)


# Readers


@pytest.mark.parametrize("peers", [1, 2, 3, 4])
@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_processes_threads_and_reading_ahead_give_one_sequence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, peers: int, prefetch: int
) -> None:
    monkeypatch.setattr(loader, "PREFETCH", prefetch)
    store, batch_size = Store(folder), 12 // peers
    draws = Draws(
        *map(np.concatenate, zip(*(vars(sequence(store, epoch)).values() for epoch in range(4)), strict=True))
    )
    for num_threads in (1, 2, 4):
        steps: list[list[Fed]] = []
        for rank in range(peers):
            rows = part_rows(len(draws), 12, 1, rank, peers)
            batches = iter_batches(
                store, draws[rows.reshape(-1)], batch_size, with_motion=False, num_threads=num_threads
            )
            steps.append([samples(batch.draws) for batch in batches])
        together = [sample for step in zip(*steps, strict=True) for turn in zip(*step, strict=True) for sample in turn]
        assert together == samples(draws)[:48]


def test_epochs_and_seeds_are_other_sequences(folder: Path) -> None:
    store = Store(folder)
    orders = [tuple(samples(sequence(store, epoch, seed))) for epoch in range(5) for seed in range(3)]
    assert len(set(orders)) == 15


@pytest.mark.parametrize(("num_draws", "peers"), [(35, 2), (35, 3), (1, 2), (8, 2), (9, 5), (0, 3)])
def test_every_clip_is_evaluated_by_one_process_in_a_batch_of_one_alone(num_draws: int, peers: int) -> None:
    dealt = [dealt_rows(num_draws, 4, rank, peers).tolist() for rank in range(peers)]
    assert sorted(itertools.chain(*dealt)) == list(range(num_draws))
    batches = [list(range(num_draws))[first : first + 4] for first in range(0, num_draws, 4)]
    for rank, rows in enumerate(dealt):
        assert rows == list(itertools.chain(*batches[rank::peers]))


# The trainer


def test_the_trainer_is_fed_the_sequence_of_each_epoch(folder: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        notes = Notes(patch)
        assert train(folder, recipe, tmp_path).status == 0
    store = Store(folder)
    expected = [samples(sequence(store, epoch))[:12] for epoch in range(NUM_EPOCHS)]
    assert [len(batch) for batch in notes.fed] == [BATCH_SIZE] * 6
    assert list(itertools.chain(*notes.fed)) == list(itertools.chain(*expected))


def test_an_interrupted_run_goes_on_with_the_next_sample(tiny_store: Path, recipe: Path, tmp_path: Path) -> None:
    """Early in an epoch, at its end, late in the next one: nothing twice, nothing left out."""
    settings = ("--set", "run.checkpoint_seconds=0", "--set", "data.batch_size=2")
    with pytest.MonkeyPatch.context() as patch:
        undisturbed = Notes(patch)
        assert train(tiny_store, recipe, tmp_path / "undisturbed", *settings).status == 0
    assert len(undisturbed.fed) == NUM_EPOCHS * STEPS_AN_EPOCH
    for num_steps in (1, STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH - 1):
        run = tmp_path / str(num_steps)
        with pytest.MonkeyPatch.context() as patch:
            before = Notes(patch)
            interrupt_at_step(patch, num_steps)
            assert train(tiny_store, recipe, run, *settings).status == 130
        with pytest.MonkeyPatch.context() as patch:
            after = Notes(patch)
            assert train(tiny_store, recipe, run, *settings).status == 0
        assert len(before.fed) == num_steps
        assert before.fed + after.fed == undisturbed.fed


@pytest.mark.slow
def test_two_processes_are_fed_one_sequence_and_evaluate_as_one(folder: Path, recipe: Path, tmp_path: Path) -> None:
    """The scores of two processes are those of one bit for bit, in the same order, for the same weights."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    program += [sys.executable, "-m", "feeding"]
    run = tmp_path / "run"
    subprocess.run([*program, folder, recipe, run, tmp_path, str(NUM_CLIPS)], check=True, cwd=TESTS, timeout=250)
    fed, scores = zip(*(read_notes(tmp_path / f"{rank}.npz") for rank in range(2)), strict=True)
    steps = [[sample for turn in zip(*step, strict=True) for sample in turn] for step in zip(*fed, strict=True)]
    store = Store(folder)
    expected = [samples(sequence(store, epoch))[:12] for epoch in range(NUM_EPOCHS)]
    assert list(itertools.chain(*steps)) == list(itertools.chain(*expected))
    result = (run / "evaluation.json").read_text()
    with pytest.MonkeyPatch.context() as patch:
        alone = train_and_evaluate(patch, folder, recipe, run, NUM_CLIPS)  # the run is done: its weights stay
    assert [one.shape for one in alone.scores] == [(NUM_TEST * NUM_CLIPS, 2)]
    for of_process in scores:
        assert len(of_process) == 1 + NUM_EPOCHS + 1  # before training, after each epoch, and the command's own
        assert np.array_equal(of_process[-1], alone.scores[0])
        assert np.array_equal(of_process[-2], last_validation(store, run))
    assert (run / "evaluation.json").read_text() == result


def last_validation(store: Store, run: Path) -> NDArray[np.float32]:
    """As one process does it, with the weights and batch statistics of the checkpoint."""
    log = open_run(run)
    fabric = build_fabric(log.recipe, "cpu")
    draws = evaluation_draws(store, split_rows(store, "")["test"], 1, 0, "spread")
    return predict(fabric, load_model(log, fabric), store, log.recipe, draws)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_between_batches_loses_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python swallows what is raised where memory comes back: there a batch may be begun."""
    store = Store(folder)
    draws, submit, raised = sequence(store, 0), loader._Reading._submit, []

    def interrupted_once(reading: loader._Reading, part: Draws) -> loader._Begun:
        if "_take_back" in {frame.name for frame in traceback.extract_stack()} and not raised:
            raised.append(part)
            raise KeyboardInterrupt
        return submit(reading, part)

    monkeypatch.setattr(loader, "MEMORY_BYTES", 1)  # of no more than two batches
    monkeypatch.setattr(loader._Reading, "_submit", interrupted_once)
    fed: list[Fed] = []
    for batch in iter_batches(store, draws, 2, with_motion=False, num_threads=1):
        fed += samples(batch.draws)
        del batch
    assert raised
    assert fed == samples(draws)
