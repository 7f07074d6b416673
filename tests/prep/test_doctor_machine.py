"""mfcd-prep doctor on packages, libraries and machines that will not do."""

from __future__ import annotations

from pathlib import Path

import h5py
import hdf5plugin
import pytest
import zstandard
from diagnosis import diagnose, mounting

from mfcd_core.store.layout import ZSTD_FILTER
from mfcd_prep import doctor_machine
from mfcd_prep.doctor_machine import Requirement, judge_packages, judge_torch, parse_requirements
from mfcd_prep.verdict import Verdict


def test_packages_too_old_or_missing_are_named_with_the_command() -> None:
    needed = [Requirement("av", "15", "prep"), Requirement("numpy", "2.0", ""), Requirement("rich", "13.7", "")]
    verdict = judge_packages(needed, {"av": "14.4.1", "numpy": "2.0.0rc1", "rich": None})
    assert verdict == Verdict("problem", "av 14.4.1, rich is not installed", "pip install 'av>=15' 'rich>=13.7'")
    assert judge_packages(needed, {"av": "15", "numpy": "2.10.1", "rich": "13.10"}).status == "ok"


def test_requirements_are_read_as_metadata_writes_them() -> None:
    lines = ["numpy>=2.0", "ffmpeg-python>=0.2; extra == 'prep'", "tomli; python_version < '3.11'"]
    assert parse_requirements(lines) == [Requirement("numpy", "2.0", ""), Requirement("ffmpeg-python", "0.2", "prep")]


@pytest.mark.parametrize(
    ("torch", "cuda", "has_gpu", "status"),
    [
        (None, {}, True, "ok"),
        ("2.13.0+cpu", {}, False, "ok"),
        ("2.13.0+cpu", {}, True, "warning"),
        ("2.13.0", {"nvidia-cudnn-cu13": "9.15.1.9"}, True, "ok"),
        ("2.13.0", {"nvidia-cudnn-cu13": "9.20.0"}, True, "ok"),
        ("2.9.0", {"nvidia-cudnn-cu12": "9.10.2.21"}, False, "warning"),
        ("2.9.0", {"nvidia-cuda-runtime-cu12": "12.8.90"}, True, "warning"),
    ],
)
def test_builds_of_torch(torch: str | None, cuda: dict[str, str], status: str, *, has_gpu: bool) -> None:
    assert judge_torch(torch, cuda, has_gpu=has_gpu).status == status


def test_hdf5_without_its_zstd_filter() -> None:
    assert h5py.h5z.unregister_filter(ZSTD_FILTER)
    try:
        verdict = doctor_machine.check_hdf5()
    finally:
        hdf5plugin.register("zstd", force=True)
    assert verdict.status == "problem"
    assert verdict.remedy == "pip install --force-reinstall h5py hdf5plugin"
    assert doctor_machine.check_hdf5().status == "ok"


def test_zstandard_that_checks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = zstandard.ZstdCompressor
    monkeypatch.setattr(zstandard, "ZstdCompressor", lambda **_: compressor(write_checksum=False))
    assert doctor_machine.check_zstandard().status == "problem"


@pytest.mark.slow
def test_few_open_files(tmp_path: Path) -> None:
    _, findings = diagnose("sh", "-c", 'ulimit -S -n 200 && exec "$@"', "sh", folder=tmp_path)
    found = findings["open files"]
    assert (found["status"], found["found"]) == ("warning", "200 at once")
    assert found["remedy"].startswith("ulimit -n 1024")


@pytest.mark.slow
def test_environment_that_harms(tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    status, findings = diagnose(folder=tmp_path, HDF5_USE_FILE_LOCKING="perhaps", **ascii_only)
    assert status == 1
    assert (findings["encoding"]["status"], findings["encoding"]["remedy"]) == ("problem", "export PYTHONUTF8=1")
    assert findings["HDF5 locks"]["status"] == "warning"


def test_little_memory_for_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "num_cores", lambda: 64)
    monkeypatch.setattr(doctor_machine, "memory_bytes", lambda: 2 << 30)
    assert doctor_machine.check_machine().remedy == "give --jobs 5"


@pytest.mark.slow
def test_no_folder_to_keep_kernels_in(tmp_path: Path) -> None:
    """The package read-only and no home: numba compiles for each process anew."""
    package = Path(doctor_machine.__file__).parents[2]
    mount = f"mount --bind '{package}' '{package}' && mount -o remount,ro,bind '{package}'"
    nowhere = {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "PYTHONDONTWRITEBYTECODE": "1"}
    prefix = mounting(mount)
    status, findings = diagnose(*prefix, folder=tmp_path, **nowhere)
    assert findings["numba"]["status"] == "warning"
    assert findings["numba"]["remedy"].startswith("export NUMBA_CACHE_DIR=")
    assert status == 0
