"""Every page in a real browser: whole without a network, on a phone, and in the dark."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from browser import brightness, find_browser, measure
from tiny_runs import run_command

from mfcd_train.evaluate import main

if TYPE_CHECKING:
    from pathlib import Path

PHONE_PX, DESK_PX = 390, 1280


@pytest.fixture(scope="module")
def pages(
    tiny_store: Path, teacher_run: Path, student_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    find_browser()
    folder = tmp_path_factory.mktemp("pages")
    made = {name: folder / f"{name}.html" for name in ("report", "features")}
    runs = [shutil.copytree(run, folder / run.name) for run in (teacher_run, student_run)]
    for run in runs:
        assert run_command(main, run, tiny_store, "--clips", 2, "--device", "cpu").status == 0
    for name, page in made.items():
        assert run_command(main, name, tiny_store, *runs, "--out", page).status == 0
    return made


@pytest.mark.parametrize("name", ["report", "features"])
def test_a_page_is_whole_and_fits_from_phone_to_desk(pages: dict[str, Path], name: str, tmp_path: Path) -> None:
    for width_px in (PHONE_PX, DESK_PX):
        found = measure(pages[name], tmp_path, width_px)
        assert found["drawn"] == found["images"] > 5
        assert found["width"] <= found["room"]


@pytest.mark.parametrize("name", ["report", "features"])
def test_a_page_turns_dark_where_that_is_preferred(pages: dict[str, Path], name: str, tmp_path: Path) -> None:
    light, dark = (measure(pages[name], tmp_path, DESK_PX, dark=dark) for dark in (False, True))
    assert brightness(light["paper"]) - brightness(light["ink"]) > 150
    assert brightness(dark["ink"]) - brightness(dark["paper"]) > 150


def test_a_report_shows_what_was_taken_for_what(pages: dict[str, Path]) -> None:
    text = pages["report"].read_text(encoding="utf-8")
    assert "What was taken for what" in text
    assert text.count('<img class="confusion"') == 2
