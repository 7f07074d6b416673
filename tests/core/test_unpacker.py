"""The fast way back to plain values is the way back that is written down, whatever the shape."""

from __future__ import annotations

import os
import pickle
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_core import kernels
from mfcd_core.errors import ChecksumError
from mfcd_core.planes import PIXEL_FORMATS
from mfcd_core.store import Store
from mfcd_core.store.packer import Packer
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.unpacker import PlaneReader, Unpacker, _compile_elsewhere

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from synthetic import StoredGop

    from mfcd_core.store.packing import StoredArray


@st.composite
def all_settings(draw: st.DrawFn) -> StoreSettings:
    return StoreSettings(
        width_px=2 * draw(st.one_of(st.integers(1, 40), st.integers(125, 135))),
        height_px=2 * draw(st.integers(1, 12)),
        gop_size=draw(st.integers(2, 6)),
        pixel_format=draw(st.sampled_from(list(PIXEL_FORMATS))),
        residual_step=draw(st.sampled_from([1, 2, 4])),
    )


@given(all_settings(), st.integers(0, 2**32 - 1), st.sampled_from([1, 8, 1 << 15]))
def test_any_values_come_back(settings: StoreSettings, seed: int, spread: int) -> None:
    """Twice in the same memory: what it held before does not matter."""
    random = np.random.default_rng(seed)
    for array in settings.stored_arrays():
        packer = Packer(array)
        unpacker = Unpacker([array])
        out = array.empty()
        for _ in range(2):
            values = (random.normal(0, spread, array.shape).astype(int) % array.modulo).astype(array.read_dtype)
            unpacker.chunks[array.name][...] = packer(values)
            unpacker.unpack({array.name: out})
            assert np.array_equal(out, values), array.name


def planes_of(stored: StoredGop, arrays: list[StoredArray]) -> dict[str, NDArray[np.generic]]:
    return {array.name: stored.arrays[array.name].astype(array.read_dtype) for array in arrays}


@pytest.mark.parametrize(("with_motion", "with_residual"), [(False, False), (False, True), (True, False), (True, True)])
def test_every_gop_is_read_in_plain_values(
    store_folder: Path, videos: dict[str, list[StoredGop]], *, with_motion: bool, with_residual: bool
) -> None:
    store = Store(store_folder)
    made = PlaneReader(store, with_motion=with_motion, with_residual=with_residual)
    reader = pickle.loads(pickle.dumps(made))  # noqa: S301, our own bytes
    kinds = {array.kind for array in reader.arrays}
    assert ("residual" in kinds, "motion" in kinds) == (with_residual, with_motion)

    def is_right(row: int, stored: StoredGop) -> bool:
        planes = {array.name: array.empty() for array in reader.arrays}
        reader.read_into(row, planes)
        return all(np.array_equal(planes[name], plane) for name, plane in planes_of(stored, reader.arrays).items())

    gops = [gop for video_id in store.videos.ids.tolist() for gop in videos[video_id]]
    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(is_right, list(range(len(gops))) * 20, gops * 20))


def test_a_source_that_was_written_later_is_looked_at_once(
    store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an installation is copied: numba's cache holds, as long as the text is the same."""
    index, asked = tmp_path / "unpack_kernels.unpack_chunks-1.py311.nbi", []
    index.touch()
    os.utime(index, (0, 0))
    monkeypatch.setattr(kernels, "_indexes", lambda *_: [index])
    monkeypatch.setattr("subprocess.run", lambda *a, **_: asked.append(a) or subprocess.CompletedProcess(a, 0))
    _compile_elsewhere.cache_clear()
    for _ in range(2):
        PlaneReader(Store(store_folder), with_motion=True)
    assert len(asked) == 1
    _compile_elsewhere.cache_clear()  # as in the next process
    PlaneReader(Store(store_folder), with_motion=True)
    assert len(asked) == 1


def test_damage_is_named(store_folder: Path) -> None:
    store = Store(store_folder)
    reader = PlaneReader(store, with_motion=True)
    place = int(store.places[0]["offset"]) + int(store.places[0]["sizes"][:-1].sum()) + 30
    with (store_folder / "shard-00000.h5").open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ChecksumError, match=r"shard-00000\.h5: GOP 0 of 'jump/a': motion is damaged"):
        reader.read_into(0, {array.name: array.empty() for array in reader.arrays})
