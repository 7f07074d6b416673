"""Several runs of one recipe as one figure: the mean over splits, with its interval over seeds."""

from __future__ import annotations

from dataclasses import asdict, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mfcd_core.errors import UsageError
from mfcd_train.config import RunRecipe
from mfcd_train.intervals import estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mfcd_train.config import Recipe
    from mfcd_train.runlog import RunLog


def mean_over_splits(shares: Mapping[tuple[int, str], float], splits: Sequence[str]) -> dict[int, float]:
    """From shares by seed and split to the mean over `splits` by seed, for the seeds that have them all."""
    seeds = sorted({seed for seed, _ in shares})
    whole = [seed for seed in seeds if all((seed, split) in shares for split in splits)]
    return {seed: fmean(shares[seed, split] for split in splits) for seed in whole}


def check_comparable(runs: Sequence[RunLog], splits: Sequence[str]) -> None:
    """Raise UsageError where runs, each evaluated on its split, have no mean.

    They have one if they differ in split and seed alone, and each seed has every split once.
    """
    for run in runs[1:]:
        if _essence(run.recipe) != _essence(runs[0].recipe):
            raise UsageError(
                f"{run.folder} was trained by another recipe than {runs[0].folder}: expected runs that differ in split "
                "and seed alone; evaluate them one by one"
            )
    found = sorted((int(run.facts["seed"]), split) for run, split in zip(runs, splits, strict=True))
    whole = sorted({(seed, split) for seed, _ in found for _, split in found})
    if found != whole:
        named = ", ".join(f"seed {seed} split {split}" for seed, split in found)
        raise UsageError(f"runs have {named}: expected every seed with every split, once; evaluate them one by one")


def _essence(recipe: Recipe) -> Recipe:
    """A recipe without its split and without how the run goes."""
    return replace(recipe, data=replace(recipe.data, split=""), run=RunRecipe())


def mean_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over splits and half the width of its interval over seeds, by measure, of results of one recipe."""
    splits = list(dict.fromkeys(str(result["split"]) for result in results))
    places = [(int(result["training_seed"]), str(result["split"])) for result in results]
    return {
        "splits": splits,
        "training_seeds": sorted({seed for seed, _ in places}),
        **{key: _estimated(results, places, splits, key) for key in results[0]["intervals"]},
    }


def _estimated(
    results: Sequence[Mapping[str, Any]], places: Sequence[tuple[int, str]], splits: Sequence[str], key: str
) -> dict[str, Any]:
    shares = {place: float(result[key]) for place, result in zip(places, results, strict=True)}
    return asdict(estimate(list(mean_over_splits(shares, splits).values())))
