"""mfcd-prep doctor on folders that cannot take results, and how disks are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis import diagnose, mounting

from mfcd_prep import doctor_folder
from mfcd_prep.doctor import FOLDER_CHECKS
from mfcd_prep.doctor_folder import existing_part, mount_of
from mfcd_prep.verdict import ok


def test_a_folder_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    verdicts = {name: check(tmp_path / "a" / "b") for name, check in FOLDER_CHECKS.items()}
    assert verdicts["folder"] == ok(f"{tmp_path / 'a' / 'b'} can be made")
    assert verdicts["durable write"].status == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", [".", "a/b"])
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("keep me")
    verdict = doctor_folder.check_folder(tmp_path / "file" / below)
    assert verdict.status == "problem"
    assert f"{tmp_path / 'file'} is a file" in verdict.found
    assert (tmp_path / "file").read_text() == "keep me"


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    fill = f"mount -t tmpfs -o size=64k none '{tmp_path}' && ! head -c 99k /dev/zero 2>&- >'{tmp_path}/fill'"
    status, findings = diagnose(*mounting(fill), folder=tmp_path)
    assert status == 1
    for name in ("space", "durable write", "fsync"):
        assert findings[name]["status"] == "problem"
        assert findings[name]["remedy"].startswith(f"free space in {tmp_path}")


@pytest.mark.slow
def test_a_read_only_disk(tmp_path: Path) -> None:
    status, findings = diagnose(*mounting(f"mount -t tmpfs -o ro none '{tmp_path}'"), folder=tmp_path)
    assert status == 1
    assert "Read-only file system" in findings["folder"]["found"]
    assert findings["durable write"]["remedy"].startswith("name another folder")


@pytest.mark.slow
def test_few_inodes(tmp_path: Path) -> None:
    _, findings = diagnose(*mounting(f"mount -t tmpfs -o nr_inodes=50 none '{tmp_path}'"), folder=tmp_path)
    assert findings["space"]["status"] == "warning"
    assert "inodes" in findings["space"]["remedy"]
    assert findings["file system"]["found"] == f"tmpfs at {tmp_path}"


def test_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_folder, "SLOW_FSYNC_SECONDS", 0.0)
    assert doctor_folder.check_fsync_speed(tmp_path).status == "warning"


MOUNTS = """rootfs / rootfs rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
tank /home/my\\040data lustre rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/x", ("/", "ext4")),
        ("/home", ("/home", "nfs4")),
        ("/homework", ("/", "ext4")),
        ("/home/me", ("/home", "nfs4")),
        ("/home/my data/set", ("/home/my data", "lustre")),
    ],
)
def test_mounts_are_found(path: str, expected: tuple[str, str]) -> None:
    assert mount_of(Path(path), MOUNTS) == expected


@pytest.mark.parametrize(("locking", "status"), [(None, "warning"), ("TRUE", "warning"), ("FALSE", "ok"), ("0", "ok")])
def test_a_folder_of_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locking: str | None, status: str
) -> None:
    (tmp_path / "mounts").write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs rw 0 0\n")
    monkeypatch.setattr(doctor_folder, "MOUNTS", tmp_path / "mounts")
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    if locking is not None:
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", locking)
    verdict = doctor_folder.check_file_system(tmp_path)
    assert verdict.status == status
    assert "nfs" in verdict.found


def test_the_nearest_part_that_exists(tmp_path: Path) -> None:
    assert existing_part(tmp_path) == tmp_path
    assert existing_part(tmp_path / "a" / "b") == tmp_path
