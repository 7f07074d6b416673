"""mfcd-bench encode: what runs beside us, and the figures that come of the runs."""

from __future__ import annotations

import json
import tempfile
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tiny_videos import cut_frames, types_by_tool, write_video

from mfcd_core.bench import Run
from mfcd_prep.bench_encode import (
    CHECK,
    LOOP,
    OURS,
    START,
    EncodeBench,
    alike_name,
    as_typed,
    encode,
    peers_of,
    summarize,
    xargs_name,
)

FRAMES = {"run/a": 24, "run/b": 12, "jump/c d": 36}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three videos of whole GOPs, one with a space in its name, and a file that is no video."""
    for video_id, num_frames in FRAMES.items():
        write_video(tmp_path / "source" / f"{video_id}.mkv", cut_frames(num_frames))
    (tmp_path / "source" / "jump" / "broken.mp4").write_text("no video")
    return tmp_path / "source"


@pytest.mark.slow
def test_peers_encode_the_same_videos_and_with_our_arguments_the_same_bytes(source: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    bench = EncodeBench(source, scratch, jobs=2, limit=None)
    contenders = bench.contenders()
    assert list(contenders) == [OURS, *peers_of(2), START, CHECK]
    for contender in contenders.values():
        run = contender()
        assert run.wall_seconds > 0
        assert run.cpu_seconds > 0
    videos = [path.read_bytes() for path in sorted((scratch / OURS).rglob("*.mp4"))]
    assert [len(types_by_tool(path)) for path in sorted((scratch / OURS).rglob("*.mp4"))] == [36, 24, 12]
    assert [path.read_bytes() for path in sorted((scratch / alike_name(2)).iterdir())] == videos
    for peer in (LOOP, xargs_name(2)):  # with more threads the bytes are others, the frames as many
        assert [len(types_by_tool(path)) for path in sorted((scratch / peer).iterdir())] == [36, 24, 12]
    assert [record.status for record in bench.records()] == ["failed", "ok", "ok", "ok"]


@pytest.mark.slow
def test_limit_holds_for_everybody(source: Path, tmp_path: Path) -> None:
    bench = EncodeBench(source, tmp_path, jobs=1, limit=2)  # the file that is no video, and one that is
    for name, contender in bench.contenders().items():
        if name in {OURS, LOOP}:
            contender()
    assert [record.id for record in bench.records()] == ["jump/broken", "jump/c d"]
    assert len(list((tmp_path / LOOP).iterdir())) == 1


def test_figures_are_frames_by_seconds() -> None:
    runs = {
        OURS: Run(12, 10),
        LOOP: Run(4, 5),
        xargs_name(3): Run(8, 5),
        alike_name(3): Run(16, 4),
        START: Run(2, 1),
        CHECK: Run(1, 2),
    }
    result = summarize({name: [run] for name, run in runs.items()}, {"frames": 1000, "jobs": 3})
    speed, cpu, speed_working, cpu_working = (result.headline, *result.more)
    assert speed.ours == 1000 / 12
    assert speed.peers == {LOOP: 250, xargs_name(3): 125, alike_name(3): 62.5}
    assert speed.limits == {xargs_name(3): 1, alike_name(3): 1}
    assert result.exit_status == 1
    assert (cpu.ours, cpu.peers, cpu.lower_is_better) == (10, {LOOP: 5, xargs_name(3): 5, alike_name(3): 4}, True)
    assert (speed_working.ours, speed_working.peers) == (100, speed.peers)
    assert (cpu_working.ours, cpu_working.peers) == (9, cpu.peers)
    assert result.facts["check_share_of_cpu"] == 0.2
    assert (result.facts["start_seconds"], result.facts["start_cpu_seconds"]) == (2, 1)


def test_work_too_small_for_its_start_has_no_figure_without_it() -> None:
    runs = dict.fromkeys((OURS, *peers_of(1), CHECK), Run(1, 1)) | {START: Run(1, 2)}
    result = summarize({name: [run] for name, run in runs.items()}, {"frames": 10, "jobs": 1})
    assert len(result.more) == 1


@pytest.mark.slow
def test_the_command_measures_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    status = encode.main([str(source), "--jobs", "2", "--repeats", "2", "--json"], standalone_mode=False)
    values = json.loads(capsys.readouterr().out)
    assert status == (1 if min(values["ratios"][name] for name in (xargs_name(2), alike_name(2))) < 1 else 0)
    assert values["facts"]["frames"] == sum(FRAMES.values())
    assert (values["facts"]["videos"], values["facts"]["failed"]) == (3, 1)
    assert {name: len(runs) for name, runs in values["runs"].items()} == dict.fromkeys(
        (OURS, *peers_of(2), START, CHECK), 2
    )
    assert list((tmp_path / "temp").iterdir()) == []


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(encode, [str(tmp_path)])
    assert refused.exit_code == 1
    assert "has no videos" in str(refused.exception)


def test_every_benchmark_that_is_declared_is_a_command_with_help() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"]["mfcd-bench"] == "mfcd_core.bench:main"
    for name, target in project["entry-points"]["mfcd.bench"].items():
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        assert (command.name, bool(command.help)) == (name, True)
        assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_a_peer_as_typed_leaves_threads_to_ffmpeg_and_keeps_what_decides_the_picture() -> None:
    ours = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+verbose", "-filter_threads", "1"]
    ours += ["-threads", "1", "-i", "a", "-g", "12", "-threads", "1", "-q:v", "2", "b"]
    assert as_typed(ours) == ["-nostdin", "-loglevel", "error", "-i", "a", "-g", "12", "-q:v", "2", "b"]
