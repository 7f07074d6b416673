"""Checks of Python, its packages, the store's libraries and the machine."""

from __future__ import annotations

import io
import os
import platform
import re
import resource
import sys
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import hdf5plugin
import numpy as np
import zstandard

from mfcd_core.machine import cpu_model, installed_version, memory_bytes, num_cores
from mfcd_core.trace import identity_sources, trace_frame
from mfcd_prep.verdict import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mfcd_prep.verdict import Verdict

OLDEST_PYTHON = (3, 11)
WORKER_BYTES = 400 << 20
FEW_DESCRIPTORS = 1024
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108, looked at, never written
LITTLE_SHARED_BYTES = 1 << 30
LOCKING_VALUES = {"", "TRUE", "FALSE", "BEST_EFFORT", "1", "0"}
GPU_DRIVER = Path("/proc/driver/nvidia/version")
OLDEST_CUDNN = 91500  # 9.8 to 9.14 bypass or break conv3d


class Requirement(NamedTuple):
    """A package, its oldest version that will do, and the extra that asks for it ("" for all)."""

    package: str
    oldest: str
    extra: str


def check_python() -> Verdict:
    """New enough."""
    found = f"{platform.python_version()}, {platform.platform()}"
    if sys.version_info < OLDEST_PYTHON:
        return problem(found, "install Python 3.11 or newer and make a new environment with it")
    return ok(found)


def check_packages() -> Verdict:
    """Every package that [prep] needs, in a version that will do."""
    try:
        needed = [row for row in parse_requirements(requires("mfcd") or []) if row.extra in {"", "prep"}]
    except PackageNotFoundError:
        return problem("mfcd itself is not installed", "pip install 'mfcd[prep]', or pip install --editable '.[prep]'")
    return judge_packages(needed, {row.package: installed_version(row.package) for row in needed})


def judge_packages(needed: Iterable[Requirement], installed: Mapping[str, str | None]) -> Verdict:
    """Compare what is needed with what is installed (None: not at all)."""
    wrong = [row for row in needed if not _is_new_enough(installed[row.package], row.oldest)]
    if wrong:
        found = ", ".join(f"{row.package} {installed[row.package] or 'is not installed'}" for row in wrong)
        return problem(found, "pip install " + " ".join(f"'{row.package}>={row.oldest}'" for row in wrong))
    return ok(", ".join(f"{name} {version}" for name, version in sorted(installed.items())))


def parse_requirements(lines: Iterable[str]) -> list[Requirement]:
    """Rows as `name>=1.2; extra == 'prep'`; others ask for nothing that is checked here."""
    pattern = re.compile(r"([\w.-]+)>=([\d.]+)(?:; extra == ['\"](\w+)['\"])?")
    return [Requirement(*match.groups("")) for line in lines if (match := pattern.fullmatch(line))]


def check_hdf5() -> Verdict:
    """A data set compressed by hdf5plugin's zstd comes back, in memory."""
    values = np.arange(4096, dtype=np.int16).reshape(16, 256)
    with h5py.File(io.BytesIO(), "w") as file:
        made = file.create_dataset("x", data=values, chunks=(1, 256), compression=hdf5plugin.Zstd(clevel=1))
        file.flush()
        same, stored = np.array_equal(made[...], values), made.id.get_storage_size()
    if not same or stored >= values.nbytes:
        found = f"h5py {h5py.__version__} with hdf5plugin {hdf5plugin.version}: zstd gave back other values"
        return problem(found, "pip install --force-reinstall h5py hdf5plugin")
    return ok(
        f"HDF5 {h5py.version.hdf5_version}, h5py {h5py.__version__}, zstd of hdf5plugin {hdf5plugin.version} works"
    )


def check_locking() -> Verdict:
    """HDF5_USE_FILE_LOCKING is a value that HDF5 knows; whether it should be set depends on FOLDER."""
    value = os.environ.get("HDF5_USE_FILE_LOCKING", "")
    if value.upper() not in LOCKING_VALUES:
        known = "TRUE, FALSE or BEST_EFFORT"
        return warning(f"HDF5_USE_FILE_LOCKING is {value!r}, expected {known}", "unset HDF5_USE_FILE_LOCKING")
    return ok(f"HDF5_USE_FILE_LOCKING is {value or 'not set'}")


def check_zstandard() -> Verdict:
    """The decoder refuses a frame with one bit of its checksum turned."""
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True, write_content_size=True).compress(bytes(1000)))
    whole = zstandard.ZstdDecompressor().decompress(bytes(frame)) == bytes(1000)
    frame[-1] ^= 1
    try:
        zstandard.ZstdDecompressor().decompress(bytes(frame))
        refused = False
    except zstandard.ZstdError:
        refused = True
    if not (whole and refused):
        found = f"zstandard {zstandard.__version__} does not check checksums"
        return problem(found, "pip install --force-reinstall zstandard")
    return ok(f"zstandard {zstandard.__version__}, refuses a flipped bit")


def check_numba() -> Verdict:
    """The trace kernel compiles, gives what arithmetic says, and is kept on disk."""
    before = identity_sources(16, 16)
    after = np.empty_like(before)
    trace_frame(before, np.array([[0, 0, 16, 16, 0, 16]], np.int32), after)
    if not np.array_equal(after[1, 0], 4 * np.maximum(np.arange(16) - 4, 0)):
        return problem("the trace kernel gives wrong places", "pip install --force-reinstall numba llvmlite numpy")
    version, cache = installed_version("numba"), trace_frame.stats.cache_path  # type: ignore[attr-defined]  # numba's
    if cache is None:
        found = f"numba {version} works, but no folder is writable to keep what it compiled: seconds for every process"
        return warning(found, "export NUMBA_CACHE_DIR=FOLDER, a folder that can be written to")
    return ok(f"numba {version}, kernels are kept in {cache}")


def check_machine() -> Verdict:
    """Cores and memory fit together at the default number of jobs."""
    cores, memory = num_cores(), memory_bytes()
    found = f"{cores} cores of {cpu_model()}, {memory / 2**30:.1f} GiB"
    if memory < cores * WORKER_BYTES:
        return warning(f"{found}: less than 400 MB a job", f"give --jobs {max(memory // WORKER_BYTES, 1)}")
    return ok(found)


def check_descriptors() -> Verdict:
    """Open files that this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_DESCRIPTORS:
        wish = FEW_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(FEW_DESCRIPTORS, hard)
        return warning(f"{soft} at once", f"ulimit -n {wish}")
    return ok("no limit" if soft == resource.RLIM_INFINITY else f"{soft} at once")


def check_shared_memory() -> Verdict:
    """Room in /dev/shm, where processes of a loader may hand over batches."""
    if not SHARED_MEMORY.is_dir():
        return warning(f"no {SHARED_MEMORY}", f"mount -t tmpfs tmpfs {SHARED_MEMORY}")
    stat = os.statvfs(SHARED_MEMORY)
    size = stat.f_blocks * stat.f_frsize
    found = f"{size / 2**30:.2f} GiB in {SHARED_MEMORY}"
    if size < LITTLE_SHARED_BYTES:
        return warning(found, f"docker run --shm-size 2g, or mount -o remount,size=2g {SHARED_MEMORY}")
    return ok(found)


def check_encoding() -> Verdict:
    """File names are UTF-8."""
    found = f"file names are {sys.getfilesystemencoding()}, text is {sys.stdout.encoding}"
    if sys.getfilesystemencoding().lower() not in {"utf-8", "utf8"}:
        return problem(found, "export PYTHONUTF8=1")
    return ok(found)


def check_torch() -> Verdict:
    """Only training needs it; looked at, not imported."""
    names = {str(each.metadata["Name"]): each.version for each in distributions() if each.metadata["Name"]}
    cudnn = {name: version for name, version in names.items() if name.startswith("nvidia-cudnn")}
    return judge_torch(names.get("torch"), cudnn, has_gpu=GPU_DRIVER.exists())


def judge_torch(torch: str | None, cudnn: Mapping[str, str], *, has_gpu: bool) -> Verdict:
    """The build of torch against the machine, cuDNN packages by name against the oldest that does conv3d well."""
    if torch is None:
        return ok("not installed; only training needs it: pip install 'mfcd[train]'")
    found = f"{torch}, {'a GPU driver' if has_gpu else 'no GPU driver'}"
    if has_gpu and torch.endswith("+cpu"):
        return warning(f"{found}: this build leaves the GPU idle", "pip install a CUDA build of torch")
    for name, version in cudnn.items():
        major, minor, patch = (*_numbers(version), 0, 0, 0)[:3]
        if has_gpu and 10_000 * major + 100 * minor + patch < OLDEST_CUDNN:
            return warning(f"{found}, cuDNN {version}: slow or wrong conv3d", f"pip install '{name}>=9.15'")
    return ok(", ".join([found, *(f"{name} {version}" for name, version in cudnn.items())]))


def check_distributed() -> Verdict:
    """Only --dask needs it."""
    version = installed_version("distributed")
    return ok(version or "not installed; only --dask needs it: pip install 'mfcd[cluster]'")


def _is_new_enough(version: str | None, oldest: str) -> bool:
    return version is not None and _numbers(version) >= _numbers(oldest)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers: `2.13.0+cpu` is (2, 13, 0)."""
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()
