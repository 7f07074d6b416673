"""`mfcd-bench extract`: who is measured on what, and where the time of a GOP goes; no test of speed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mfcd_core.store.settings import StoreSettings
from mfcd_prep import bench_extract
from mfcd_prep.bench_extract import extract_bench, read_with_mv_extractor, steps_table, summarize
from mfcd_prep.extract_steps import STEPS, decode_alone, time_steps

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = {"jump/a": 24, "jump/b": 24, "run/c": 12, "run/d": 36, "run/e": 12}  # as `encode` has made them
SPEEDS = {
    "mfcd": 1500.0,
    "mfcd, level auto": 1200.0,
    "mfcd, fastest level": 1800.0,
    "PyAV decoding": 10000.0,
    "plain NumPy": 100.0,
}


def encoded_files(encoded: Path) -> list[Path]:
    return sorted(encoded.rglob("*.mp4"))


def test_decoders_see_every_frame(encoded: Path) -> None:
    assert decode_alone(encoded_files(encoded)) == sum(FRAMES.values())


def test_mv_extractor_reads_the_same_frames(encoded: Path) -> None:
    pytest.importorskip("mvextractor")
    assert read_with_mv_extractor(encoded_files(encoded)) == sum(FRAMES.values())


def test_every_step_is_timed_on_a_shard_that_is_written(encoded: Path, tmp_path: Path) -> None:
    seconds = time_steps(encoded_files(encoded), StoreSettings(64, 48), tmp_path)
    assert tuple(seconds) == STEPS
    assert min(seconds[step] for step in ("decode", "trace", "compress", "checksum", "write")) > 0
    assert len(list(tmp_path.glob("*.h5"))) == 1


def test_limits_are_shares_of_the_bare_decoder() -> None:
    result = summarize(SPEEDS, {}, {})
    assert result.headline.ratios == {"PyAV decoding": 0.15, "plain NumPy": 15.0}
    assert result.headline.missed == []
    smallest, fastest = result.more
    assert smallest.ratios["PyAV decoding"] == pytest.approx(0.12)
    assert smallest.missed == []
    assert fastest.ratios["PyAV decoding"] == pytest.approx(0.18)
    assert fastest.missed == ["PyAV decoding"]
    assert result.exit_status == 1


def test_a_peer_that_is_missing_is_named() -> None:
    assert summarize(SPEEDS, {}, {}).headline.peers["mv-extractor"] is None


def test_the_command_measures_all_and_leaves_nothing(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(bench_extract, "find_spec", lambda name: None if name == "mvextractor" else 1)
    before = sorted(encoded.rglob("*"))
    ran = CliRunner().invoke(extract_bench, [str(encoded), "--repeats", "1", "--json"], standalone_mode=False)
    assert ran.exception is None
    result = json.loads(ran.stdout)
    assert result["unit"] == "frames/s/core"
    assert result["facts"]["gops"] == sum(FRAMES.values()) // 12
    assert result["peers"]["mv-extractor"] is None
    assert set(result["ratios"]) == {"PyAV decoding", "plain NumPy"}
    shares = [value for name, value in result["facts"].items() if name.endswith("_us_a_gop")]
    cpu = result["runs"]["mfcd"][0]["cpu_seconds"]
    assert sum(shares) == pytest.approx(1e6 * cpu / result["facts"]["gops"])
    assert sorted(encoded.rglob("*")) == before
    assert not list((tmp_path / "tmp").iterdir())


def test_the_table_has_a_line_a_step() -> None:
    table = steps_table({"decode": 900.0, "trace": 100.0})
    assert [list(column.cells) for column in table.columns] == [
        ["decode", "trace"],
        ["900", "100"],
        ["90.0 %", "10.0 %"],
    ]
