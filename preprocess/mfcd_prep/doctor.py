"""Is this machine fit for the work? A closed table of checks, each of which really tries what it speaks of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mfcd_prep import doctor_folder, doctor_machine, doctor_media
from mfcd_prep.verdict import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from mfcd_prep.verdict import Verdict

REINSTALL = "where no other line says more: pip install --force-reinstall 'mfcd[prep]'"
MACHINE_CHECKS: Mapping[str, Callable[[], Verdict]] = {
    "python": doctor_machine.check_python,
    "packages": doctor_machine.check_packages,
    "ffmpeg": doctor_media.check_ffmpeg,
    "ffmpeg formats": doctor_media.check_formats,
    "setpriv": doctor_media.check_setpriv,
    "PyAV": doctor_media.check_pyav,
    "motion vectors": doctor_media.check_motion_vectors,
    "HDF5": doctor_machine.check_hdf5,
    "HDF5 locks": doctor_machine.check_locking,
    "zstandard": doctor_machine.check_zstandard,
    "numba": doctor_machine.check_numba,
    "cores and memory": doctor_machine.check_machine,
    "open files": doctor_machine.check_descriptors,
    "shared memory": doctor_machine.check_shared_memory,
    "encoding": doctor_machine.check_encoding,
    "torch": doctor_machine.check_torch,
    "distributed": doctor_machine.check_distributed,
}
FOLDER_CHECKS: Mapping[str, Callable[[Path], Verdict]] = {
    "folder": doctor_folder.check_folder,
    "space": doctor_folder.check_space,
    "durable write": doctor_folder.check_durable_write,
    "fsync": doctor_folder.check_fsync_speed,
    "file system": doctor_folder.check_file_system,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check, by its name, came to."""

    name: str
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: name, status, found, remedy."""
        return {"name": self.name, **asdict(self.verdict)}


def examine(folder: Path) -> Iterator[Finding]:
    """Run every check, those of `folder` last; a check that cannot come to its end is a problem."""
    for name, check in MACHINE_CHECKS.items():
        yield Finding(name, _verdict_of(check))
    for name, check_place in FOLDER_CHECKS.items():
        yield Finding(name, _verdict_of(partial(check_place, folder.absolute())))


def _verdict_of(check: Callable[[], Verdict]) -> Verdict:
    try:
        return check()
    except Exception as error:  # noqa: BLE001, whatever is broken here must not hide the other findings
        return problem(f"{type(error).__name__}: {' '.join(str(error).split())}", REINSTALL)
