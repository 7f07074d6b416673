"""What is shipped: the three packages with their recipes, and nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


def test_wheel_holds_every_module_and_recipe_and_nothing_else(tmp_path: Path) -> None:
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = ("mfcd_core", "preprocess/mfcd_prep", "train/mfcd_train")
    expected = {
        path.relative_to((ROOT / source).parent).as_posix()
        for source in sources
        for path in (ROOT / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == expected
    assert {"mfcd_train/recipes/teacher.toml", "mfcd_core/py.typed"} <= shipped


def test_no_module_is_a_drawer_and_no_file_is_over_long() -> None:
    modules = [path for package in ("mfcd_core", "preprocess", "train") for path in (ROOT / package).rglob("*.py")]
    assert not {path.stem for path in modules} & {"utils", "helpers", "common", "misc"}
    assert [path.name for path in modules if len(path.read_text().splitlines()) > 300] == []
