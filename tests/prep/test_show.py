"""`mfcd-prep show`: steps and figures by arithmetic, tiles by their equations, sources of a GOP, what is written."""

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
from mfcd_core.gop import Gop
from mfcd_core.store import Store
from mfcd_core.store.settings import StoreSettings
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.show import (
    MAX_TILE_PX,
    ShownGop,
    draw,
    figures_of,
    fitted,
    mean_figures,
    steps_of_blocks,
    steps_of_motion,
)
from mfcd_prep.show_sheet import spread
from mfcd_prep.show_source import gop_size_of, read_shown_gop

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HEIGHT, WIDTH = 32, 48


def shown_gop(
    residual: NDArray[np.int16], level: int = 100, real_frames: int = 12, corner_px: NDArray[np.int16] | None = None
) -> ShownGop:
    """A flat grey I-frame with residuals (T,) in levels, the same at every pixel; motion at the last pixel alone.

    corner_px: D_t of that pixel, (T, 2).
    """
    shape = (len(residual), HEIGHT, WIDTH, 3)
    motion = np.zeros((len(residual), 2, HEIGHT, WIDTH), np.int16)
    motion[:, :, -1, -1] = 0 if corner_px is None else corner_px
    gop = Gop(
        {"rgb": np.full(shape[1:], level, np.uint8)},
        {"rgb": np.broadcast_to(residual[:, None, None, None], shape).astype(np.int16)},
        motion,
        real_frames,
        "rgb24",
    )
    steps = steps_of_blocks([np.empty((0, 6), np.int32)] * len(residual), (HEIGHT, WIDTH))
    return ShownGop("v", 0, 1, gop, steps, "I" + "P" * len(residual), {}, {})


RAMP = np.arange(1, 12)

# Steps


def test_steps_of_blocks_are_quarter_pixels_and_the_later_block_wins() -> None:
    blocks = np.array([[0, 0, 16, 16, 6, -10], [8, 8, 8, 8, 4, 0], [24, 40, 16, 16, 0, 8]], np.int32)
    displacement = steps_of_blocks([blocks], (HEIGHT, WIDTH)).displacement[0]
    assert displacement[:, 0, 0].tolist() == [1.5, -2.5]
    assert displacement[:, 15, 15].tolist() == [1, 0]
    assert displacement[:, 31, 47].tolist() == [0, 2]
    assert not displacement[:, 16:24].any()


def test_sources_outside_are_those_left_of_the_picture() -> None:
    """A block that moved right by 5 px at the left edge: its first 5 columns came from outside."""
    outside = steps_of_blocks([np.array([[16, 0, 16, 16, 0, 20]], np.int32)], (HEIGHT, WIDTH)).outside[0]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[16:, :5] = True
    assert np.array_equal(outside, expected)


def test_steps_of_a_store_are_solved_from_accumulated_motion() -> None:
    motion = np.arange(1, 6)[:, None, None, None] * np.array([1, -2])[:, None, None] * np.ones((HEIGHT, WIDTH), int)
    steps = steps_of_motion(motion.astype(np.int16))
    assert steps.solved is not None
    assert steps.solved.all()
    assert (steps.displacement == np.array([1, -2])[:, None, None]).all()
    assert steps.outside[0, 1].all()  # row 1 came from row 0, where a clamped source would lie
    assert not steps.outside[0, 2:, :-3].any()


# Figures


def test_figures_are_means_in_levels_and_pixels() -> None:
    num_pixels = HEIGHT * WIDTH
    figures = figures_of(shown_gop(RAMP * 3, corner_px=np.stack([RAMP // 4 * 3, RAMP // 4 * 4], axis=1)))
    assert [f.t for f in figures] == list(range(12))
    for t in range(1, 12):
        assert figures[t].change == figures[t].residual == 3 * t
        assert figures[t].step_residual == 3
        assert figures[t].moved == pytest.approx((t >= 4) / num_pixels)
        assert figures[t].mean_px == pytest.approx(t // 4 * 5 / num_pixels)
        assert figures[t].max_px == t // 4 * 5
    mean = mean_figures(figures)
    assert (mean.t, mean.change, mean.residual, mean.max_px) == (11, 18, 18, 10)
    assert mean.moved == pytest.approx(8 / 11 / num_pixels)


def test_repeats_do_not_count() -> None:
    figures = figures_of(shown_gop(RAMP * 3, real_frames=4))
    assert [f.t for f in figures if f.is_repeat] == list(range(4, 12))
    assert (mean_figures(figures).t, mean_figures(figures).residual) == (3, 6)
    assert mean_figures(figures_of(shown_gop(RAMP, real_frames=1))).residual == 0


# Tiles


def test_tiles_follow_their_equations() -> None:
    shown = shown_gop(RAMP * 20 - 100, level=90)
    rows = draw(shown, range(12)).rows
    assert [len(rows[name]) for name in ("rgb", "step", "step_residual", "motion", "residual", "augmented")] == [
        *(12, 11, 11, 11, 11, 12)
    ]
    for t in range(1, 12):
        r = 20 * t - 100
        step = r if t == 1 else min(max(90 + r, 0), 255) - min(max(90 + r - 20, 0), 255)
        expected = {"rgb": 90 + r, "residual": 128 + r, "step_residual": 128 + step, "augmented": 90 + r}
        for name, value in expected.items():
            tile = rows[name][t - (12 - len(rows[name]))]
            assert (tile == min(max(value, 0), 255)).all(), (name, t)
        assert (rows["motion"][t - 1] == 255).all()


def test_pixels_from_outside_are_dark() -> None:
    shown = shown_gop(RAMP)
    blocks = [np.array([[16, 0, 16, 16, 0, 20]], np.int32)] * 11
    steps = steps_of_blocks(blocks, (HEIGHT, WIDTH))
    tile = draw(ShownGop("v", 0, 1, shown.gop, steps, "I" + "P" * 11, {}, {}), [0, 1]).rows["step"][0]
    factor = tile.shape[0] // HEIGHT
    assert (tile[30 * factor :, : 5 * factor].max(axis=-1) < 40).all()
    assert (tile[30 * factor :, 6 * factor : 15 * factor].max(axis=-1) > 200).all()


def test_an_arrow_ends_where_the_content_is() -> None:
    """Content at column 24 that moved 4 px to the right: ink between columns 24 - 4 x scale and 24, in row 8."""
    shown = shown_gop(RAMP)
    blocks = [np.array([[0, 16, 16, 16, 0, 16]], np.int32)] * 11
    pictures = draw(
        ShownGop("v", 0, 1, shown.gop, steps_of_blocks(blocks, (HEIGHT, WIDTH)), "I" + "P" * 11, {}, {}), [0, 1]
    )
    tile, scale = pictures.rows["step"][0], pictures.arrow_scale["step"]
    assert (pictures.full_px["step"], scale) == (4, 4)
    factor = tile.shape[0] // HEIGHT
    ink_rows, ink_columns = np.nonzero(tile.max(axis=-1) < 100)
    assert abs(ink_columns.max() / factor - 24) < 0.5
    assert abs(ink_columns.min() / factor - (24 - 4 * scale)) < 0.5
    assert np.abs(ink_rows / factor - 8).max() < 2
    head, tail = (ink_rows[np.abs(ink_columns / factor - at) < 1.2] for at in (23, 9))
    assert np.ptp(head) > np.ptp(tail)


@pytest.mark.parametrize(
    ("size", "expected"), [((100, 80), (300, 240)), ((256, 256), (256, 256)), ((720, 1280), (270, MAX_TILE_PX))]
)
def test_tiles_have_a_size_to_look_at(size: tuple[int, int], expected: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 77, np.uint8)
    assert fitted(flat).shape[:2] == expected
    assert (fitted(flat) == 77).all()


def test_columns_are_spread_over_the_frames() -> None:
    assert spread(12) == [0, 2, 4, 7, 9, 11]
    assert spread(3) == [0, 1, 2]


# Sources


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
