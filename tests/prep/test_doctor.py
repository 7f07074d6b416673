"""mfcd-prep doctor: what is broken for real is found, named, and comes with what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio_ffmpeg
import numpy as np
import pytest

from mfcd_prep import doctor, doctor_folder, doctor_machine, doctor_media, ffmpeg
from mfcd_prep.doctor import FOLDER_CHECKS, MACHINE_CHECKS, examine
from mfcd_prep.doctor_cli import line_of
from mfcd_prep.doctor_folder import existing_part, mount_of
from mfcd_prep.doctor_machine import Requirement, judge_packages, judge_torch, parse_requirements
from mfcd_prep.doctor_media import draw_pan, parse_flags
from mfcd_prep.verdict import STATUSES, Verdict, ok

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
DOCTOR = [sys.executable, "-c", "from mfcd_prep.cli import main; main()", "doctor", "--json"]


@pytest.fixture
def use_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets MFCD_FFMPEG to a shell script."""

    def use(script: str) -> None:
        (tmp_path / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("MFCD_FFMPEG", str(tmp_path / "ffmpeg"))

    ffmpeg.ffmpeg_binary.cache_clear()
    yield use
    ffmpeg.ffmpeg_binary.cache_clear()


def diagnose(*prefix: str, folder: Path | str, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status and findings of the command in a process of its own."""
    command = [*prefix, *DOCTOR, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    values = json.loads(done.stdout)
    assert done.returncode == values["exit_status"]
    return done.returncode, {check["name"]: check for check in values["checks"]}


def mounting(script: str) -> list[str]:
    """A prefix that runs `script`, which mounts, and then the rest of the command in a name space of its own."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*prefix, script], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    return [*prefix, f'{script} && exec "$@"', "sh"]


# The whole


def test_every_check_passes_or_says_what_to_do(tmp_path: Path) -> None:
    findings = list(examine(tmp_path))
    assert [finding.name for finding in findings] == [*MACHINE_CHECKS, *FOLDER_CHECKS]
    for finding in findings:
        assert finding.verdict.status in STATUSES
        assert finding.verdict.found
        assert bool(finding.verdict.remedy) == (finding.verdict.status != "ok")
    assert list(tmp_path.iterdir()) == []
    works = {finding.name: finding.verdict.status for finding in findings}
    for name in ("ffmpeg", "motion vectors", "HDF5", "zstandard", "durable write"):
        assert works[name] == "ok", name


def test_lines_are_aligned_and_end_with_the_remedy(
    tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run_command("doctor", tmp_path / "file") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    *lines, summary = shown.err.splitlines()
    assert len(lines) == len(MACHINE_CHECKS) + len(FOLDER_CHECKS)
    column = lines[0].index("python")
    assert all(line[column - 1] == " " != line[column] for line in lines)
    (line,) = [line for line in lines if line[column:].startswith("folder ")]
    assert line.startswith("problem")
    assert line.endswith("file is a file, expected a folder; to mend it: name another folder, or move the file away")
    assert summary.startswith(f"{len(lines)} checks: ")


def test_only_a_problem_fails_the_command(monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., int]) -> None:
    monkeypatch.setattr(doctor, "MACHINE_CHECKS", {"python": lambda: Verdict("warning", "old", "update")})
    monkeypatch.setattr(doctor, "FOLDER_CHECKS", {})
    assert run_command("doctor") == 0
    monkeypatch.setattr(doctor, "MACHINE_CHECKS", {"python": lambda: 1 / 0, "PyAV": lambda: ok("well")})
    assert run_command("doctor") == 1


def test_a_check_that_breaks_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "MACHINE_CHECKS", {"python": lambda: 1 / 0, "PyAV": lambda: ok("well")})
    broken, well, *_ = examine(tmp_path)
    assert broken.verdict.status == "problem"
    assert broken.verdict.found == "ZeroDivisionError: division by zero"
    assert well.verdict == ok("well")


def test_names_from_outside_do_not_move_the_cursor() -> None:
    assert "\x1b" not in line_of(doctor.Finding("folder", ok("\x1b[2J"))).plain


# ffmpeg and PyAV


@pytest.mark.parametrize("script", ["exit 1", "echo hello", "kill -9 $$"])
def test_a_program_that_is_no_ffmpeg(use_ffmpeg: Callable[[str], None], script: str) -> None:
    use_ffmpeg(script)
    checks = (doctor_media.check_ffmpeg, doctor_media.check_formats, doctor_media.check_motion_vectors)
    for check in checks:
        verdict = check()
        assert verdict.status == "problem"
        assert verdict.remedy.startswith("unset MFCD_FFMPEG")


def test_mfcd_ffmpeg_that_is_not_there(use_ffmpeg: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    del use_ffmpeg
    monkeypatch.setenv("MFCD_FFMPEG", "/no/such/ffmpeg")
    verdict = doctor_media.check_ffmpeg()
    assert verdict.status == "problem"
    assert "'/no/such/ffmpeg'" in verdict.found


def test_an_ffmpeg_that_hangs(use_ffmpeg: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    use_ffmpeg("exec sleep 60")
    monkeypatch.setattr(doctor_media, "TIMEOUT_SECONDS", 0.2)
    assert "timed out" in doctor_media.check_ffmpeg().found


@pytest.mark.parametrize(
    ("pattern", "status", "words"),
    [
        (r" DEV.L. mpeg4 ", "problem", "lacks encoder mpeg4"),
        (r" E  *mp4 ", "problem", "lacks muxer mp4"),
        (r" wmv3 ", "warning", "cannot read wmv3:"),
        (r" matroska,webm ", "warning", "cannot read matroska:"),
        (r"no such line", "ok", "encodes mpeg4 to mp4"),
    ],
)
def test_an_ffmpeg_built_without_a_format(
    use_ffmpeg: Callable[[str], None], pattern: str, status: str, words: str
) -> None:
    use_ffmpeg(f"'{FFMPEG}' \"$@\" | sed '/{pattern}/d'")
    verdict = doctor_media.check_formats()
    assert (verdict.status, words in verdict.found) == (status, True)


@pytest.mark.parametrize(
    ("swap", "words"),
    [
        ("s/^12$/1/", "pictures IIIIIIIIIIII came out, expected one I and 11 P"),
        ("s/]scale/]hflip,scale/", "vectors (dy, dx) are (0, -4) px, drawn were (0, 4) px"),
        ("s/^-fps_mode$/-no_such_option/", "ffmpeg ended with status"),
    ],
)
def test_an_ffmpeg_that_does_something_else(use_ffmpeg: Callable[[str], None], swap: str, words: str) -> None:
    each_word = f'set -- "$@" "$(printf %s "$word" | sed \'{swap}\')"'
    use_ffmpeg(f"for word do shift; {each_word}; done; exec '{FFMPEG}' \"$@\"")
    verdict = doctor_media.check_motion_vectors()
    assert verdict.status == "problem"
    assert words in verdict.found


def test_the_drawn_texture_moves_right() -> None:
    frames = [np.frombuffer(frame, np.uint8)[: 64 * 64].reshape(64, 64) for frame in draw_pan(3)]
    assert np.array_equal(frames[2][:, 8:], frames[0][:, :-8])
    assert not np.array_equal(frames[1], frames[0])


def test_listings_of_ffmpeg_are_read() -> None:
    legend = " D..... = Decoding supported\n .E.... = Encoding supported\n -------\n"
    rows = " DEVIL. mjpeg                Motion JPEG\n D.V.L. wmv3                 WMV 9 (decoders: wmv3 )\n"
    assert parse_flags(legend + rows) == {"mjpeg": "DEVIL.", "wmv3": "D.V.L."}
    formats = "File formats:\n D. = Demuxing supported\n --\n D  matroska,webm   Matroska / WebM\n  E mp4 MP4\n"
    assert {name: flags.strip() for name, flags in parse_flags(formats).items()} == {
        "matroska": "D",
        "webm": "D",
        "mp4": "E",
    }


def test_setpriv_is_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = doctor_media.check_setpriv()
    assert (verdict.status, verdict.remedy) == ("warning", "apt install util-linux")


# Packages and the machine


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


def test_few_open_files(tmp_path: Path) -> None:
    _, findings = diagnose("sh", "-c", 'ulimit -S -n 200 && exec "$@"', "sh", folder=tmp_path)
    found = findings["open files"]
    assert (found["status"], found["found"]) == ("warning", "200 at once")
    assert found["remedy"].startswith("ulimit -n 1024")


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


# The folder


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


def test_a_full_disk(tmp_path: Path) -> None:
    fill = f"mount -t tmpfs -o size=64k none '{tmp_path}' && ! head -c 99k /dev/zero 2>&- >'{tmp_path}/fill'"
    status, findings = diagnose(*mounting(fill), folder=tmp_path)
    assert status == 1
    for name in ("space", "durable write", "fsync"):
        assert findings[name]["status"] == "problem"
        assert findings[name]["remedy"].startswith(f"free space in {tmp_path}")


def test_a_read_only_disk(tmp_path: Path) -> None:
    status, findings = diagnose(*mounting(f"mount -t tmpfs -o ro none '{tmp_path}'"), folder=tmp_path)
    assert status == 1
    assert "Read-only file system" in findings["folder"]["found"]
    assert findings["durable write"]["remedy"].startswith("name another folder")


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
