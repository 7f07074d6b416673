"""The command `mfcd-prep repair`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfcd_core.console import print_json, say
from mfcd_prep.options import (
    dask_option,
    dry_run_option,
    jobs_option,
    json_option,
    list_pairs,
    workers_of,
)
from mfcd_prep.repair import find_damage, repair_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mfcd_core.store.verify import Finding
    from mfcd_prep.workers import Workers


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("encoded", type=click.Path(path_type=Path))
@jobs_option
@dask_option
@dry_run_option
@json_option
def repair(store: Path, encoded: Path, *, jobs: int, address: str | None, dry_run: bool, as_json: bool) -> int:
    """Make the damaged shards of STORE again from ENCODED, the videos that it was made from.

    A shard is replaced only by the very bytes that the index recorded; else it stays as it is, and what differs is
    said: versions of libraries, settings, or videos. Exit status 0 all mended, 1 some could not be.
    """
    workers = workers_of(jobs, address)
    if dry_run:
        return _show_damage(store, workers, as_json=as_json)
    summary = repair_store(store, encoded, workers)
    if as_json:
        left = [finding.to_dict() for finding in summary.left]
        counts = {"num_shards": summary.num_shards, "mended": list(summary.mended), "left": left}
        print_json(counts | {"exit_status": summary.exit_status})
    for name in summary.mended:
        say(f"mended: {name}")
    list_pairs("not mended", _pairs(summary.left))
    say(f"{len(summary.mended)} files mended, {len(summary.left)} left as they are, of {summary.num_shards} shards")
    return summary.exit_status


def _show_damage(store: Path, workers: Workers, *, as_json: bool) -> int:
    damage = find_damage(store, workers)
    if as_json:
        print_json({"todo": dict(_pairs(damage.findings)), "num_shards": len(damage.index.shards)})
    list_pairs("would mend", _pairs(damage.findings))
    say(f"would mend {len(damage.findings)} files, of {len(damage.index.shards)} shards")
    return 0


def _pairs(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(str(finding.shard), finding.problem) for finding in findings]
