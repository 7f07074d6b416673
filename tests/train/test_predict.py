"""`mfcd-predict`: labels of video files, equal to what mfcd-eval makes of the same videos in a store."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tiny_runs import STUDENT, TEACHER, moving_picture, run_command
from tiny_videos import write_video

from mfcd_core.store import Store
from mfcd_prep.encode import encode_videos
from mfcd_prep.encode_settings import EncodeSettings
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_train.build import build_fabric, build_model, load_model
from mfcd_train.checkpoint import Progress, save_checkpoint
from mfcd_train.config import Recipe
from mfcd_train.dataset import evaluation_draws
from mfcd_train.evaluator import predict as evaluator_predict
from mfcd_train.metrics import video_scores
from mfcd_train.predict import main
from mfcd_train.runlog import begin_run, open_run

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from tiny_runs import Outcome

NUM_FRAMES = {"down/long": 64, "down/short": 7, "right/long": 40, "right/exact": 24}
B_FRAMES = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-bf", "2", "-pix_fmt", "yuv420p", "-threads", "1")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of another codec, size and grid than a store's, one of them shorter than a GOP."""
    folder = tmp_path_factory.mktemp("sources")
    for seed, (video_id, num_frames) in enumerate(NUM_FRAMES.items()):
        frames = moving_picture(video_id.partition("/")[0], num_frames, seed)
        write_video(folder / f"{video_id}.mkv", frames, filters="scale=50:38", codec=B_FRAMES)
    return folder


@pytest.fixture(scope="module", params=["yuv420p", "rgb24"])
def store(request: pytest.FixtureRequest, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    encode_videos(sources, folder / "encoded", EncodeSettings(size=(32, 32), quality=3))
    extract_videos(folder / "encoded", folder / "store", ExtractOptions(pixel_format=request.param, residual_step=4))
    return Store(folder / "store")


def untrained_run(folder: Path, store: Store, recipe: dict[str, dict[str, Any]]) -> Path:
    """A run folder as mfcd-train leaves it, with random weights that tell clips apart."""
    run = begin_run(folder, Recipe.from_dict(recipe), store, 0, {"teacher": None, "init": None})
    torch.manual_seed(1)
    model = build_model(run.recipe, len(store.classes))
    torch.nn.init.normal_(model.classifier.weight, std=0.05)
    save_checkpoint(run.folder, model.state_dict(), {}, Progress(1, 0, 1))
    return folder


def evaluated(run: Path, store: Store, clips: int) -> NDArray[np.float32]:
    """Scores of mfcd-eval of every video of the store, (videos, classes)."""
    log = open_run(run)
    fabric = build_fabric(log.recipe, "cpu")
    draws = evaluation_draws(store, np.arange(len(store.videos)), clips, 0, "spread")
    return video_scores(evaluator_predict(fabric, load_model(log, fabric), store, log.recipe, draws), clips)


def predicted(*arguments: object) -> tuple[Outcome, list[dict[str, Any]]]:
    done = run_command(main, *arguments, "--device", "cpu", "--json")
    return done, [json.loads(line) for line in done.out.splitlines()]


def scores_of(record: dict[str, Any], classes: tuple[str, ...]) -> list[float]:
    by_label = {found["label"]: found["score"] for found in record["predictions"]}
    return [by_label[name] for name in classes]


@pytest.mark.parametrize("recipe", [TEACHER, STUDENT], ids=["rgb", "augmented"])
def test_scores_are_those_of_mfcd_eval_on_the_store(
    recipe: dict[str, dict[str, Any]], store: Store, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = untrained_run(tmp_path / "run", store, recipe)
    expected = evaluated(run, store, 4)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    done, records = predicted(run, sources, "--clips", 4, "--top", 2)
    assert done.status == 0, done.err
    assert [record["video"] for record in records] == [f"{sources}/{i}.mkv" for i in sorted(NUM_FRAMES)]
    assert [record["num_gops"] for record in records] == [5, 1, 2, 3]
    scores = np.array([scores_of(record, store.classes) for record in records])
    assert np.ptp(expected[:, 0]) > 1e-3  # the videos are told apart
    assert scores == pytest.approx(expected, abs=1e-5)
    assert list(temporary.iterdir()) == []


def test_a_file_on_the_grid_of_a_foreign_store_is_taken_as_it_is(tiny_store: Path, teacher_run: Path) -> None:
    opened = Store(tiny_store)
    _, records = predicted(teacher_run, tiny_store.parent / "encoded", "--clips", 3)
    assert [record["video"].partition("encoded/")[2] for record in records] == [f"{i}.mp4" for i in opened.videos.ids]
    scores = [scores_of(record, opened.classes) for record in records]
    assert np.array(scores) == pytest.approx(evaluated(teacher_run, opened, 3), abs=1e-5)


def test_a_broken_file_is_one_line_and_costs_itself(
    sources: Path, tiny_store: Path, teacher_run: Path, tmp_path: Path
) -> None:
    broken, good = tmp_path / "broken.mp4", tiny_store.parent / "encoded" / "down" / "0.mp4"
    broken.write_text("no video")
    off_grid = sources / "down" / "long.mkv"
    done, records = predicted(teacher_run, broken, off_grid, good)
    assert done.status == 1
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == [str(broken), str(off_grid)]
    assert [("error" in record, "predictions" in record) for record in records] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_a_broken_file_alone_is_status_1(store: Store, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", store, TEACHER)
    (tmp_path / "v.mp4").write_bytes(b"\0" * 4096)
    done = run_command(main, run, tmp_path / "v.mp4", "--device", "cpu")
    assert (done.status, done.out) == (1, "")
    (line,) = [line for line in done.err.splitlines() if not line.startswith("predict ")]
    assert line.startswith(f"error: {tmp_path / 'v.mp4'}: cannot be read as a video")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["no-such-video.mp4"], "no-such-video.mp4"), (["."], "has no videos")],
)
def test_nothing_to_read_is_wrong_usage(
    arguments: list[str], words: str, teacher_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_command(main, teacher_run, *arguments)
    assert done.status == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_timeline_has_every_gop_and_the_same_labels(tiny_store: Path, teacher_run: Path, tmp_path: Path) -> None:
    videos = [tiny_store.parent / "encoded" / "down" / f"{number}.mp4" for number in (2, 0)]
    _, plain = predicted(teacher_run, *videos, "--clips", 2)
    done, records = predicted(teacher_run, *videos, "--clips", 2, "--timeline", tmp_path / "time.png")
    assert done.status == 0, done.err
    assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")
    assert [record["predictions"] for record in records] == [
        [{"label": found["label"], "score": pytest.approx(found["score"], abs=1e-5)} for found in record["predictions"]]
        for record in plain
    ]
    assert ["gops" in record for record in plain] == [False, False]
    assert [[gop["seconds"] for gop in record["gops"]] for record in records] == [[0.0, 0.48, 0.96], [0.0, 0.48]]


def test_missing_decoders_say_what_to_install(teacher_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mfcd_prep.video_gops", None)
    done = run_command(main, teacher_run, "v.mp4")
    assert done.status == 2
    assert "pip install 'mfcd[prep]'" in done.err
