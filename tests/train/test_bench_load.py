"""`mfcd-bench load`: who reads what, and what is made of it; no test of speed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mfcd_core.bench import Run
from mfcd_core.gop import signed_motion
from mfcd_core.store import Store
from mfcd_prep.bench_decode import DECORD, ON_THE_FLY, TORCHCODEC, build_decoders, trace_on_the_fly
from mfcd_train import bench_load
from mfcd_train.bench_load import DECODERS, load
from mfcd_train.bench_load_figures import LIMITS, NUM_ASSEMBLIES, passes_over, summarize
from mfcd_train.bench_load_peers import read_gzip, read_hdf5, read_jpegs, read_tar, write_gzip, write_jpegs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUM_CLIPS = 16
PASSES = 7
SIZES = {"kb_a_clip_in_batch": 1000.0, "kb_a_clip_in_batch_motion": 2000.0, "kb_a_clip_rgb": 3000.0}
CPU_SECONDS = {  # of 100 clips, so often as they are read
    "mfcd": 0.1,
    "mfcd, motion": 0.2,
    "mfcd, 2 threads": 0.1,
    "mfcd, 2 threads, motion": 0.2,
    "mfcd, 2 processes": 0.2,
    "mfcd, 2 processes, motion": 0.4,
    "mfcd, as stored": 0.08,
    "mfcd, as stored, motion": 0.1,
    "h5py + hdf5plugin": 0.02,
    "h5py + hdf5plugin, motion": 0.05,
    "h5py + hdf5plugin, as stored": 0.16,
    "h5py + hdf5plugin, as stored, motion": 0.125,
    "h5py gzip": 0.1,
    "h5py gzip, motion": 0.4,
    "JPEG frames": 0.5,
    "PyAV, traced on the fly": 0.3,
    "zstd alone": 0.05,
    "memcpy alone": 0.01,
    "zstd alone, motion": 0.1,
    "memcpy alone, motion": 0.02,
    "assembly, augmented": 0.5 * NUM_ASSEMBLIES,
}


class Declared:
    """Stands in for the entry point of mfcd_prep."""

    def load(self) -> Callable[..., Any]:
        return build_decoders


@pytest.fixture
def store(tiny_store: Path) -> Store:
    return Store(tiny_store)


def test_decoders_see_every_frame(tiny_store: Path, store: Store) -> None:
    paths = sorted(tiny_store.parent.rglob("*.mp4"))
    assert trace_on_the_fly(paths, store.settings) == NUM_CLIPS * 12
    decoders = build_decoders(paths, store.settings)
    assert set(decoders) == {ON_THE_FLY, TORCHCODEC, DECORD}
    for name, work in decoders.items():
        if isinstance(work, str):
            assert re.fullmatch("(torchcodec|decord) is not installed", work), name
        else:
            assert work() == NUM_CLIPS * 12, name


def test_peers_read_the_clips_of_the_store(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads every clip to the end: nothing is missing from what was written."""
    names = [array.name for array in store.settings.stored_arrays()]
    write_gzip(store, tmp_path / "gzip.h5", NUM_CLIPS)
    num_bytes = write_jpegs(store, tmp_path / "frames", tmp_path / "frames.tar", NUM_CLIPS)
    frames = sorted((tmp_path / "frames").rglob("*.jpg"))
    assert len(frames) == NUM_CLIPS * 12
    assert num_bytes == sum(path.stat().st_size for path in frames)
    opened = []
    image_open = Image.open
    monkeypatch.setattr(Image, "open", lambda file: (opened.append(file), image_open(file))[1])
    read_jpegs(store, tmp_path / "frames", range(NUM_CLIPS))
    assert sorted(opened) == frames
    read_tar(store, tmp_path / "frames.tar")
    assert len(opened) == 2 * len(frames)
    rows = []
    read_direct = h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda self, *a: (rows.append(self.name), read_direct(self, *a)))
    read_gzip(tmp_path / "gzip.h5", names[:-1], range(NUM_CLIPS))
    assert len(rows) == NUM_CLIPS * 4
    assert "/motion" not in rows
    read_gzip(tmp_path / "gzip.h5", names, range(NUM_CLIPS))
    assert rows.count("/motion") == NUM_CLIPS
    rows.clear()
    read_hdf5(store, range(NUM_CLIPS), with_motion=True, as_stored=True)
    assert len(rows) == NUM_CLIPS * 5
    read_hdf5(store, range(NUM_CLIPS), with_motion=False, as_stored=False)
    assert len(rows) == NUM_CLIPS * (5 + 4)


def test_jpegs_and_gzip_hold_the_clips(store: Store, tmp_path: Path) -> None:
    write_gzip(store, tmp_path / "gzip.h5", NUM_CLIPS)
    write_jpegs(store, tmp_path / "frames", tmp_path / "frames.tar", NUM_CLIPS)
    last = store.read_gop(str(store.videos.ids[-1]), int(store.videos.num_gops[-1]) - 1)
    with h5py.File(tmp_path / "gzip.h5") as file:
        assert np.array_equal(file["iframe/luma"][NUM_CLIPS - 1], last.iframe["luma"])
        assert np.array_equal(signed_motion(file["motion"][NUM_CLIPS - 1]), last.motion)
        assert np.array_equal(file["residual/chroma"][NUM_CLIPS - 1] * np.int16(2), last.residual["chroma"])
    with Image.open(tmp_path / "frames" / str(NUM_CLIPS - 1) / "011.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - last.rebuild_frames()[11]).mean() < 8


@pytest.mark.parametrize(("clips", "passes"), [(1, 5000), (4999, 2), (5000, 1), (9000, 1)])
def test_few_clips_are_read_as_long_as_many(clips: int, passes: int) -> None:
    assert passes_over(clips) == passes


def test_figures_are_clips_a_second_of_cpu() -> None:
    """What gives plain values is beside what gives plain values, what leaves them as stored beside the like."""
    runs = {name: (Run(seconds / (1 + ("threads" in name)), seconds),) for name, seconds in CPU_SECONDS.items()}
    result = summarize(runs, {DECORD: "it is not installed"}, {"clips": 100, "passes": PASSES, "threads": 2, **SIZES})
    assert result.headline.ours == pytest.approx(1000 * PASSES)
    assert result.headline.ratios["h5py + hdf5plugin"] == pytest.approx(0.2 * PASSES)  # which reads every clip once
    assert result.headline.ratios["JPEG frames"] == pytest.approx(5 * PASSES)
    assert result.headline.peers[DECORD] is None
    assert result.facts[DECORD] == "did not run, it is not installed"
    assert result.facts["ms a batch, assembly, augmented"] == "500"
    motion, stored, stored_motion, threads, _, planes, _, cpu, cpu_motion = result.more
    assert result.headline.ratios["h5py gzip"] == pytest.approx(PASSES)
    assert motion.ratios["h5py gzip"] == pytest.approx(2 * PASSES)  # it reads motion, too
    assert "h5py gzip, motion" not in motion.peers
    assert cpu.ours == pytest.approx(1 / PASSES)  # seconds of 1000 clips
    assert (cpu.peers["JPEG frames"], cpu.peers[DECORD]) == (pytest.approx(5), None)
    assert cpu_motion.peers["h5py gzip"] == pytest.approx(4)
    assert motion.ratios["zstd alone"] == pytest.approx(0.5)
    assert motion.ratios["JPEG frames"] == pytest.approx(2.5 * PASSES)
    assert stored.ratios == {"h5py + hdf5plugin": pytest.approx(2.0)}
    assert stored_motion.ratios == {"h5py + hdf5plugin": pytest.approx(1.25)}
    assert stored_motion.missed == ["h5py + hdf5plugin"]
    assert threads.ratios == {"one thread": pytest.approx(2.0), "2 worker processes": pytest.approx(4.0)}
    assert planes.ours == pytest.approx(1000 * PASSES)
    assert planes.ratios["JPEG frames"] == pytest.approx(5 * PASSES / 3)  # of three times the bytes
    assert result.exit_status == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_command_measures_all_and_leaves_nothing(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(bench_load, "entry_points", lambda group: [Declared()] if group == DECODERS else [])
    arguments = [str(tiny_store), "--encoded", str(tiny_store.parent / "encoded"), "--repeats", "1", "--json"]
    ran = CliRunner().invoke(load, [*arguments, "--plot", str(tmp_path / "p.png")], standalone_mode=False)
    assert ran.exception is None, ran.output
    result = json.loads(ran.stdout)
    assert (result["unit"], result["facts"]["clips"]) == ("clips/s/core", NUM_CLIPS)
    assert set(LIMITS) <= {name for name, value in result["peers"].items() if value}
    with Image.open(tmp_path / "p.png") as plot:
        assert plot.size == (960, 840)
    assert not list((tmp_path / "tmp").iterdir())


def test_videos_without_an_encoded_file_are_named(tiny_store: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(load, [str(tiny_store), "--encoded", str(tmp_path)], standalone_mode=False)
    assert "down/0.mp4 is not there: expected --encoded to be the folder" in str(ran.exception)
