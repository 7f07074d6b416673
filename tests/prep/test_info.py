"""mfcd-prep info: what an encoded folder and a store say of themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mfcd_core.errors import UsageError
from mfcd_core.store import Store
from mfcd_prep.extract import ExtractOptions, extract_videos
from mfcd_prep.info import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def store(encoded_once: Path, tmp_path: Path) -> Path:
    extract_videos(encoded_once, tmp_path / "store", ExtractOptions(shard_gops=1))
    return tmp_path / "store"


def test_an_encoded_folder(encoded_once: Path) -> None:
    facts = describe(encoded_once)
    settings = facts.pop("settings")
    assert (settings["size"], settings["gop_size"]) == ([64, 48], 12)
    assert facts == {
        "kind": "encoded videos",
        "videos": 5,
        "failed": 1,
        "damaged": 0,
        "gops": 9,
        "frames_decoded": 24 + 30 + 12 + 36 + 7,
        "frames": 9 * 12,
        "bytes": sum(path.stat().st_size for path in encoded_once.rglob("*.mp4")),
        "classes": {"jump": 2, "run": 3},
    }


def test_a_store(store: Path) -> None:
    facts = describe(store)
    num_bytes = sum(path.stat().st_size for path in store.glob("shard-*.h5"))
    expected = {"kind": "store", "videos": 5, "gops": 9, "real_frames": 24 + 24 + 12 + 36 + 7, "shards": 5}
    expected |= {"bytes": num_bytes, "bytes_per_gop": round(num_bytes / 9), "unlabelled": 0}
    assert {name: facts[name] for name in expected} == expected
    assert facts["classes"] == {"fall": 0, "jump": 2, "run": 3}
    assert facts["splits"] == {"random": {"train": 3, "test": 2}}
    assert facts["settings"] == Store(store).settings.to_dict()


def test_bytes_of_a_gop_by_array(store: Path) -> None:
    names = ["iframe/luma", "iframe/chroma", "residual/luma", "residual/chroma", "motion"]
    mean_sizes = np.load(store / "gops.npy")["sizes"].mean(0)
    by_array = describe(store)["bytes_per_gop_by_array"]
    assert list(by_array) == names
    np.testing.assert_allclose(list(by_array.values()), mean_sizes, atol=0.5)


def test_a_flat_folder_counts_what_has_no_label(foreign: Path, tmp_path: Path) -> None:
    extract_videos(foreign / "run", tmp_path / "flat", ExtractOptions())
    facts = describe(tmp_path / "flat")
    assert (facts["videos"], facts["unlabelled"], facts["classes"], facts["splits"]) == (6, 6, {}, {})


def test_what_is_neither_is_refused(
    tmp_path: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=r"neither index\.json nor manifest\.jsonl: expected a store or a folder"):
            describe(folder)
    assert run_command("info", tmp_path) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_damaged_store_is_refused(store: Path, run_command: Callable[..., int]) -> None:
    (store / "index.json").write_text("{}")
    assert run_command("info", store) == 2


def test_for_people_and_for_machines(
    store: Path, run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("info", store, "--json") == 0
    assert json.loads(capsys.readouterr().out) == describe(store)
    assert run_command("info", store) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "gops: 9" in lines
    assert "  run: 3" in lines
