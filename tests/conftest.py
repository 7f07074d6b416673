"""Shared fixtures: hypothesis, the same in every run, and real clips where they lie beside the checkout."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:  # as for a job in the background, or under nohup
        signal.signal(number, handler)

settings.register_profile("mfcd", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("mfcd")

DATA = Path(os.environ.get("MFCD_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What programs leave behind when tests kill them goes with the folders of the tests, which pytest removes."""
    with pytest.MonkeyPatch.context() as context:
        context.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        context.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Folder of real clips; skips where it is missing, fails instead when MFCD_REQUIRE_DATA=1."""
    if not (DATA / "ut-interaction").is_dir():
        reason = f"no real clips in {DATA} (set MFCD_DATA to a folder that has ut-interaction/ and odd/)"
        if os.environ.get("MFCD_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return DATA
