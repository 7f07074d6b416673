"""What `show` takes, from videos and stores, and the pictures and pages that it writes."""

from __future__ import annotations

import base64
import re
import tempfile
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from synthetic import encode, pan, random_gop, write_store

from mfcd_core.errors import UsageError, VideoError
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.show import (
    figures_of,
    fitted,
    mean_figures,
)
from mfcd_prep.show_source import gop_size_of, read_shown_gop

if TYPE_CHECKING:
    from collections.abc import Callable


HEIGHT, WIDTH = 32, 48


def on_grid(folder: Path, gop_size: int = 12, num_frames: int = 36) -> Path:
    frames = np.stack([pan(num_frames, 1, -2, size=(96, 128), seed=seed) for seed in range(3)], axis=-1)
    return encode(folder / "v.mp4", frames, gop_size)


@pytest.mark.parametrize("gop_size", [12, 16])
def test_a_video_on_a_grid_is_used_as_it_is(tmp_path: Path, gop_size: int, capfd: pytest.CaptureFixture[str]) -> None:
    shown = read_shown_gop(on_grid(tmp_path, gop_size), None, 1)
    assert (shown.gop.gop_size, shown.num_gops, shown.picture_types) == (
        gop_size,
        36 // gop_size,
        "I" + "P" * (gop_size - 1),
    )
    interior = shown.steps.displacement[:, :, 24:-24, 24:-24]
    assert np.median(interior, axis=(0, 2, 3)).tolist() == [1, -2]
    assert "on the fly" not in capfd.readouterr().err


def test_a_video_and_the_store_of_it_show_the_same(encoded: Path, tmp_path: Path) -> None:
    extract_videos(encoded, tmp_path / "store", ExtractOptions(residual_step=1))
    from_store = read_shown_gop(tmp_path / "store", "run/d", 2)
    from_video = read_shown_gop(encoded / "run" / "d.mp4", None, 2)
    assert np.array_equal(from_store.gop.motion, from_video.gop.motion)
    assert np.array_equal(from_store.gop.rebuild_frames(), from_video.gop.rebuild_frames())
    assert from_store.num_gops == from_video.num_gops == 3
    for a, b in zip(figures_of(from_store), figures_of(from_video), strict=True):
        assert (a.change, a.residual, a.moved, a.max_px) == (b.change, b.residual, b.moved, b.max_px)


def test_any_other_video_is_encoded_on_the_fly_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    path = encode(tmp_path / "b.avi", pan(30, 0, 1, size=(96, 128)), options=["-bf", "2"])
    shown = read_shown_gop(path, None, 1)
    assert shown.gop.motion.shape == (11, 2, 256, 256)
    assert shown.num_gops == 2
    assert "b.avi is not on a grid of GOPs (frame 1 is B" in capfd.readouterr().err
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_short_video_is_padded_and_says_which_frames_are_real(tmp_path: Path) -> None:
    shown = read_shown_gop(on_grid(tmp_path, num_frames=5), None, 0)
    assert (shown.gop.real_frames, shown.gop.gop_size, shown.num_gops) == (5, 12, 1)
    assert (shown.gop.rebuild_frames()[5:] == shown.gop.rebuild_frames()[4]).all()


@pytest.mark.parametrize(("types", "size"), [("IPPPIPPP", 4), ("IPPPPP", 12), ("I", 12), ("II", 1)])
def test_gop_size_is_the_distance_of_i_frames(types: str, size: int) -> None:
    assert gop_size_of(types) == size


@pytest.fixture
def store(tmp_path: Path) -> Path:
    settings = StoreSettings(64, 48)
    rng = np.random.default_rng(0)
    ids = ("jump/<b>a</b>", "jump/b", "run/c")
    return write_store(tmp_path / "store", settings, {i: [random_gop(settings, rng)] * 2 for i in ids})


def test_an_unknown_video_names_the_nearest(store: Path) -> None:
    assert read_shown_gop(store, None, 0).video_id == "jump/<b>a</b>"
    with pytest.raises(UsageError, match=r"no video 'run/cc' among 3; the nearest are 'run/c'"):
        read_shown_gop(store, "run/cc", 0)


@pytest.mark.parametrize("gop_index", [-1, 2])
def test_a_gop_out_of_range_says_the_range(store: Path, tmp_path: Path, gop_index: int) -> None:
    with pytest.raises(UsageError, match=f"GOP {gop_index} of 'run/c': expected 0 to 1"):
        read_shown_gop(store, "run/c", gop_index)
    with pytest.raises(UsageError, match=f"GOP {gop_index} of v.mp4: expected 0 to 1"):
        read_shown_gop(on_grid(tmp_path, num_frames=24), None, gop_index)


def test_what_is_neither_store_nor_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a store"):
        read_shown_gop(tmp_path, None, 0)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text.mp4: cannot be read as a video"):
        read_shown_gop(tmp_path / "text.mp4", None, 0)
    with pytest.raises(UsageError, match=r"--video a: .* is a single video"):
        read_shown_gop(tmp_path / "text.mp4", "a", 0)


# What is written


class Page(HTMLParser):
    """Sources of pictures, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_every_tile_and_needs_no_other_file(
    store: Path, tmp_path: Path, run_command: Callable[..., int]
) -> None:
    assert run_command("show", store, "--gop", "1", "--out", tmp_path / "gop.html") == 0
    html = (tmp_path / "gop.html").read_text("utf-8")
    page = Page(html)
    assert len(page.sources) == 2 * 12 + 4 * 11 + 2
    assert all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import|https?://", html)
    assert not page.tags & {"script", "link", "iframe", "b"}
    first = Image.open(BytesIO(base64.b64decode(page.sources[0].partition(",")[2])))
    expected = fitted(Store(store).read_gop("jump/<b>a</b>", 1).rebuild_frames()[0])
    assert first.size == expected.shape[1::-1]
    assert np.abs(np.asarray(first.convert("RGB")).astype(int) - expected).mean() < 20  # noise, and a lossy format


def test_the_page_says_bytes_and_figures(store: Path, tmp_path: Path, run_command: Callable[..., int]) -> None:
    run_command("show", store, "--video", "run/c", "--out", tmp_path / "gop.html")
    text = Page((tmp_path / "gop.html").read_text("utf-8")).text
    opened = Store(store)
    sizes = opened.places[int(opened.videos.first_gop[2])]["sizes"].tolist()
    for size in (*sizes, sum(sizes)):
        assert f"{size / 1024:,.1f}" in text
    residual = mean_figures(figures_of(read_shown_gop(store, "run/c", 0))).residual
    assert f"{residual:.2f}" in text
    assert "run/c: GOP 0" in text


@pytest.mark.parametrize(("name", "kind"), [("gop.png", "PNG"), ("gop.JPG", "JPEG")])
def test_a_picture_is_written(
    store: Path, tmp_path: Path, run_command: Callable[..., int], name: str, kind: str
) -> None:
    assert run_command("show", store, "--out", tmp_path / name) == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind
        assert picture.width > 6 * 256
        assert picture.height > 6 * 192


@pytest.mark.slow
def test_the_picture_is_the_same_again(store: Path, tmp_path: Path, run_command: Callable[..., int]) -> None:
    for name in ("a.png", "b.png", "a.html", "b.html"):
        run_command("show", store, "--out", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("arguments", [("--out", "x.gif"), ("--out", "x.png", "--video", "none"), ()])
def test_mistakes_leave_nothing(
    store: Path,
    tmp_path: Path,
    run_command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run_command("show", store, *arguments) == 2
    assert list(Path().iterdir()) == []


def test_real_clips_are_explained_by_motion(real_clips: Path) -> None:
    """Residuals from frame to frame are the smallest, accumulated ones well below the plain difference."""
    for action in ("hugging", "kicking"):
        mean = mean_figures(
            figures_of(read_shown_gop(min((real_clips / "ut-interaction" / action).iterdir()), None, 2))
        )
        assert mean.step_residual < mean.residual < 0.75 * mean.change
