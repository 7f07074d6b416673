"""A run folder: what was asked, with which versions, and what was measured."""

from __future__ import annotations

import fcntl
import json
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import tomli_w

from mfcd_core.atomic import remove_left_over, replacing
from mfcd_core.console import say, warn
from mfcd_core.errors import OutputError, UsageError
from mfcd_core.store.settings import StoreSettings
from mfcd_train.checkpoint import CHECKPOINT, writing_to
from mfcd_train.recipe_files import load_recipe
from mfcd_train.schedule import Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mfcd_core.store import Store
    from mfcd_train.checkpoint import Progress
    from mfcd_train.config import Recipe

RECIPE, RUN, METRICS, LOCK = "recipe.toml", "run.json", "metrics.jsonl", ".lock"
EVALUATION, REPORT = "evaluation.json", "report.html"
VALIDATION_TOP1, VALIDATION_TOP5, VALIDATION_CE = (
    f"validation/{name}" for name in ("clip/top1", "clip/top5", "loss/ce")
)
PACKAGES = ("mfcd", "torch", "lightning-fabric", "numpy", "zstandard")


@dataclass(frozen=True)
class RunLog:
    """A run folder that was opened for its recipe: same command again finds the same folder and goes on."""

    folder: Path
    recipe: Recipe
    facts: Mapping[str, Any]

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the logits."""
        names: list[str] = self.facts["classes"]
        return names

    @property
    def settings(self) -> StoreSettings:
        """Those of the store that the run was trained on. Raises StoreError where they are not usable."""
        return StoreSettings.from_dict(self.facts.get("store_settings", {}))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line to metrics.jsonl. Raises OutputError where that cannot be written."""
        path = self.folder / METRICS
        with writing_to(self.folder, str(path)), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All records; a line torn by a kill or a lost machine is left out."""
        path = self.folder / METRICS
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
        return [record for record in map(_parse_record, lines) if record]

    def read_validations(self) -> list[Validation]:
        """What the epochs came to so far, in their order."""
        return [as_validation(record) for record in self.read_metrics() if VALIDATION_TOP1 in record]

    def forget_after(self, progress: Progress) -> None:
        """Drop the records of steps that a resumed run takes again, and of an epoch whose end it reaches again."""
        kept = [r for r in self.read_metrics() if r["step"] <= progress.step and r["epoch"] <= progress.epoch]
        path = self.folder / METRICS
        with writing_to(self.folder, str(path)), replacing(path) as part:
            part.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")


def _parse_record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"step", "epoch"} <= record.keys() else None


def as_validation(record: Mapping[str, Any]) -> Validation:
    """The record of an epoch's end as what compares with others."""
    return Validation(record[VALIDATION_TOP1], -record[VALIDATION_CE], -record["epoch"])


def begin_run(folder: Path, recipe: Recipe, store: Store, seed: int, origin: Mapping[str, str | None]) -> RunLog:
    """Open `folder` for this recipe, store, seed and origin of weights (`teacher`, `init` ...), or find it so.

    A run that failed before anything was recorded is begun anew. The section [run] may change, which is said aloud:
    it does not decide what is learnt. Raises UsageError where the folder holds a run of something else, naming the
    difference, and OutputError where it cannot be written.
    """
    facts = {
        "seed": seed,
        **origin,
        "store": str(store.path.resolve()),
        "store_checksum": store.checksum,
        "store_settings": store.settings.to_dict(),
        "classes": list(store.classes),
    }
    with _opening(folder):
        return _begin_or_find(folder, recipe, facts)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other trainers out; the system lets them in again when this process ends, however it does.

    A file system without locks keeps nobody out. Raises UsageError where another process trains in the folder, and
    OutputError where it cannot be written.
    """
    with _opening(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another mfcd-train is at work in it; expected one at a time: wait, or choose another --out"
            ) from None
        except OSError as error:
            warn(f"{folder} cannot be locked ({error.strerror}): see that no other mfcd-train is given the same --out")
        yield


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}): expected a folder with some room; choose another --out, "
            "or make room and run again"
        ) from error


def _begin_or_find(folder: Path, recipe: Recipe, facts: Mapping[str, Any]) -> RunLog:
    remove_left_over(folder)
    if (folder / RUN).exists() and any(_is_filled(folder / name) for name in (CHECKPOINT, METRICS)):
        run = open_run(folder)
        _require_same(folder, run, recipe, facts)
        if changed := _differing(run.recipe, recipe):
            say(f"{folder} goes on with another {', '.join(changed)}")
            _write_recipe(folder, recipe)
        return open_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_recipe(folder, recipe)
    versions = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    with replacing(folder / RUN) as part:
        part.write_text(json.dumps({**facts, "versions": versions}, indent=1) + "\n", encoding="utf-8")
    return open_run(folder)


def _write_recipe(folder: Path, recipe: Recipe) -> None:
    with replacing(folder / RECIPE) as part:
        part.write_text(tomli_w.dumps(recipe.to_dict()), encoding="utf-8")


def _is_filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def open_run(folder: Path) -> RunLog:
    """Open a run folder. Raises UsageError where it is none."""
    try:
        facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UsageError(f"{folder}: no readable {RUN}; expected the folder of a run of mfcd-train") from None
    if not _are_facts(facts):
        raise UsageError(f"{folder / RUN}: not a record of mfcd-train; expected seed, teacher, init and classes in it")
    return RunLog(folder, load_recipe(str(folder / RECIPE)), facts)


def names_of(folders: Sequence[Path]) -> list[str]:
    """What to call runs beside each other: the names of their folders, or the whole paths where two are alike."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _are_facts(facts: Any) -> bool:  # noqa: ANN401 - a file may hold anything
    if not isinstance(facts, dict) or not isinstance(facts.get("seed"), int):
        return False
    names = facts.get("classes")
    origins = [facts.get(name) for name in ("teacher", "init")]
    are_names = isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)
    return are_names and all(origin is None or isinstance(origin, str) for origin in origins)


def _require_same(folder: Path, run: RunLog, recipe: Recipe, facts: Mapping[str, Any]) -> None:
    differing = [name for name, value in facts.items() if name != "store" and run.facts.get(name) != value]
    if {"teacher_checksum"} == {*differing}:
        raise UsageError(f"{folder}: teacher {facts['teacher']} has other weights by now; choose another --out")
    differing += [name for name in _differing(run.recipe, recipe) if not name.startswith("run.")]
    if differing:
        raise UsageError(f"{folder} holds a run with another {', '.join(differing)}; choose another --out")


def _differing(one: Recipe, other: Recipe) -> list[str]:
    old, new = one.to_dict(), other.to_dict()
    return [f"{section}.{name}" for section in new for name in new[section] if old[section][name] != new[section][name]]
