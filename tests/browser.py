"""Pages in a real browser, without a window: what is drawn, and whether it fits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom")
DARK = "--blink-settings=preferredColorScheme=0"
HARNESS = """<!DOCTYPE html><body><iframe src="{uri}" style="width:{width}px;height:2000px;border:0"></iframe><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, images = [...page.images];
  const look = page.defaultView.getComputedStyle(page.body);
  document.body.innerHTML = "<pre>" + JSON.stringify({{
    width: page.documentElement.scrollWidth,
    room: page.documentElement.clientWidth,
    images: images.length,
    drawn: images.filter(image => image.complete && image.naturalWidth > 0).length,
    paper: look.backgroundColor, ink: look.color,
  }}) + "</pre>";
}});
</script></body>"""


def find_browser() -> str:
    """Path of a Chromium or Chrome; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or pytest.skip("needs Chromium or Chrome")


def measure(page: Path, folder: Path, width_px: int, *, dark: bool = False) -> dict[str, Any]:
    """Open `page` in a frame of `width_px`: widths laid out and there, images, colours of text and paper."""
    harness = folder / "harness.html"
    harness.write_text(HARNESS.format(uri=page.resolve().as_uri(), width=width_px), encoding="utf-8")
    command = [find_browser(), *FLAGS, *([DARK] if dark else []), f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([*command, harness.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    found = re.search("<pre>(.*)</pre>", done.stdout)
    assert found, done.stdout + done.stderr
    measured: dict[str, Any] = json.loads(found[1])
    return measured


def brightness(colour: str) -> float:
    """Mean level of a colour as the browser names it, `rgb(...)`."""
    levels = [int(level) for level in re.findall("[0-9]+", colour)[:3]]
    return sum(levels) / 3
