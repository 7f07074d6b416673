"""Checks of Python, its packages, the store's libraries and the machine."""

from __future__ import annotations

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
from mfcd_core.trace import identity_sources, no_cells, trace_frame
from mfcd_prep.verdict import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from mfcd_prep.verdict import Verdict

OLDEST_PYTHON = (3, 11)
WORKER_BYTES = 400 << 20
FEW_DESCRIPTORS = 1024
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108, looked at, never written
LITTLE_SHARED_BYTES = 1 << 30
LOCKING_VALUES = {"", "TRUE", "FALSE", "BEST_EFFORT", "1", "0"}
GPU_DRIVER = Path("/proc/driver/nvidia/version")
CUDA_PACKAGES = ("nvidia-cudnn", "nvidia-cuda-runtime")
SAY_CUDNN = "python -c 'import torch; print(torch.backends.cudnn.version())'"
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
    libraries = f"HDF5 {h5py.version.hdf5_version}, h5py {h5py.__version__}, hdf5plugin {hdf5plugin.version}"
    remedy = "pip install --force-reinstall h5py hdf5plugin"
    try:
        same = _zstd_comes_back(np.arange(4096, dtype=np.int16).reshape(16, 256))
    except (OSError, RuntimeError, ValueError) as error:
        return problem(f"{libraries}: {error}", remedy)
    return ok(f"{libraries}, zstd works") if same else problem(f"{libraries}: zstd gave back other values", remedy)


def check_locking() -> Verdict:
    """HDF5_USE_FILE_LOCKING is a value that HDF5 knows; whether it should be set depends on FOLDER."""
    value = os.environ.get("HDF5_USE_FILE_LOCKING", "")
    if value.upper() not in LOCKING_VALUES:
        known = "TRUE, FALSE or BEST_EFFORT"
        return warning(f"HDF5_USE_FILE_LOCKING is {value!r}, expected {known}", "unset HDF5_USE_FILE_LOCKING")
    return ok(f"HDF5_USE_FILE_LOCKING is {value or 'not set'}")


def check_zstandard() -> Verdict:
    """The decoder refuses a frame of noise with one bit turned, which by its checksum alone it can tell."""
    noise = os.urandom(1000)
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(noise))
    whole = zstandard.ZstdDecompressor().decompress(bytes(frame)) == noise
    frame[len(frame) // 2] ^= 1
    try:
        zstandard.ZstdDecompressor().decompress(bytes(frame))
    except zstandard.ZstdError:
        if whole:
            return ok(f"{zstandard.__version__}, refuses a flipped bit")
    found = f"zstandard {zstandard.__version__} does not check checksums"
    return problem(found, "pip install --force-reinstall zstandard")


def check_numba() -> Verdict:
    """The trace kernel compiles, gives what arithmetic says, and is kept on disk."""
    sources = identity_sources(16, 16)
    trace_frame(sources, np.array([[0, 0, 16, 16, 0, 16]], np.int32), np.empty_like(sources), no_cells(16, 16))
    if not np.array_equal(sources[1, 0], 4 * np.maximum(np.arange(16) - 4, 0)):
        return problem("the trace kernel gives wrong places", "pip install --force-reinstall numba llvmlite numpy")
    version, cache = installed_version("numba"), trace_frame.stats.cache_path  # type: ignore[attr-defined]  # numba's
    if cache is None:
        found = f"{version} works, but no folder is writable to keep what it compiled: seconds for every process"
        return warning(found, "export NUMBA_CACHE_DIR=FOLDER, a folder that can be written to")
    return ok(f"{version}, kernels are kept in {cache}")


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
        may_raise = hard == resource.RLIM_INFINITY or hard >= FEW_DESCRIPTORS
        limits = "" if may_raise else ", once the administrator has raised nofile in /etc/security/limits.conf"
        return warning(f"{soft} at once", f"ulimit -n {FEW_DESCRIPTORS}{limits}")
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
    cuda = {name: version for name, version in names.items() if name.startswith(CUDA_PACKAGES)}
    return judge_torch(names.get("torch"), cuda, has_gpu=GPU_DRIVER.exists())


def judge_torch(torch: str | None, cuda: Mapping[str, str], *, has_gpu: bool) -> Verdict:
    """The build of torch, and packages of CUDA by name: cuDNN must be one that does conv3d well."""
    if torch is None:
        return ok("not installed; only training needs it: pip install 'mfcd[train]'")
    found = ", ".join([torch, "a GPU driver" if has_gpu else "no GPU driver", *map(" ".join, cuda.items())])
    if has_gpu and torch.endswith("+cpu"):
        return warning(f"{found}: this build leaves the GPU idle", "pip install a CUDA build of torch")
    cudnn = {name: version for name, version in cuda.items() if "cudnn" in name}
    for name, version in cudnn.items():
        if _cudnn_number(version) < OLDEST_CUDNN:
            return warning(f"{found}: this cuDNN is slow or wrong at conv3d", f"pip install '{name}>=9.15'")
    if has_gpu and not cudnn:
        return warning(
            f"{found}: no package tells cuDNN's version", f"see that {SAY_CUDNN} says {OLDEST_CUDNN} or more"
        )
    return ok(found)


def check_distributed() -> Verdict:
    """Only --dask needs it."""
    version = installed_version("distributed")
    return ok(version or "not installed; only --dask needs it: pip install 'mfcd[cluster]'")


def _zstd_comes_back(values: NDArray[np.int16]) -> bool:
    """Write (rows, columns) compressed, a chunk a row; whether it is read back and was smaller."""
    with h5py.File("doctor", "w", driver="core", backing_store=False) as file:
        made = file.create_dataset("x", data=values, chunks=(1, values.shape[1]), compression=hdf5plugin.Zstd())
        file.flush()
        return np.array_equal(made[...], values) and made.id.get_storage_size() < values.nbytes


def _cudnn_number(version: str) -> int:
    """As cuDNN itself counts: 9.10.2.21 is 91002."""
    major, minor, patch = (*_numbers(version), 0, 0, 0)[:3]
    return 10_000 * major + 100 * minor + patch


def _is_new_enough(version: str | None, oldest: str) -> bool:
    return version is not None and _numbers(version) >= _numbers(oldest)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers: `2.13.0+cpu` is (2, 13, 0)."""
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()
