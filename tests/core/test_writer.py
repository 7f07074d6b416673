"""A shard by its raw bytes, and by h5py and hdf5plugin as a user without us would read it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin  # noqa: F401, registers the filter
import numpy as np
import pytest
import xxhash
import zstandard
from synthetic import StoredGop, random_gop, write_shard

from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.writer import ShardWriter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SETTINGS = StoreSettings(32, 16, gop_size=4)
ALL_SETTINGS = pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        StoreSettings(32, 16, gop_size=4, residual_step=1, trace="integer"),
        StoreSettings(30, 18, gop_size=16, residual_step=4, pixel_format="rgb24", level=9),
        StoreSettings(16, 16, gop_size=2, level=-5, encoder={"quality": 2}),
        StoreSettings(32, 16, gop_size=4, level="auto"),
    ],
    ids=["default", "lossless", "rgb24", "fast", "auto"],
)


def noise(settings: StoreSettings, *num_gops: int, seed: int = 0) -> dict[str, list[StoredGop]]:
    rng = np.random.default_rng(seed)
    return {f"walk/{i}": [random_gop(settings, rng) for _ in range(num)] for i, num in enumerate(num_gops)}


def in_order(videos: dict[str, list[StoredGop]]) -> list[StoredGop]:
    return [gop for gops in videos.values() for gop in gops]


def plain(stored: h5py.Dataset, gop: int) -> NDArray[Any]:
    """The plain values of a GOP by the data set's own attributes, digit by digit, as docs/store-format.md tells."""
    how = stored.attrs
    axes, shape, values = how["axes"].decode().split()[1:], tuple(how["shape"]), stored[gop].astype(int)
    if axes[0] == "digit":
        quad = axes.index("quad") - 1
        rows = [sum((digits >> 2 * i & 3) << 2 * k for k, digits in enumerate(values)) for i in range(4)]
        folded = np.stack(rows, quad + 1).reshape(*shape[:quad], -1, *shape[quad + 1 :]).take(range(shape[quad]), quad)
        values = np.where(folded % 2, -(folded + 1) // 2, folded // 2)
        axes = [*axes[1:][:quad], "row", *axes[1:][quad + 1 :]]
    for axis in how["difference"].decode().split():
        values = values.cumsum(axes.index(axis))
    if stored.name != "/motion":
        low = 0 if stored.name.startswith("/iframe") else -how["modulo"] // 2
        return (values - low) % how["modulo"] + low
    values = values.transpose([axes.index(name) for name in ("frame", "component", "row", "column")])
    places = np.indices(shape[2:])
    return places - (places - values) % how["modulo"]


@ALL_SETTINGS
def test_plain_h5py_reads_what_was_written(tmp_path: Path, settings: StoreSettings) -> None:
    videos = noise(settings, 2, 1, 3)
    write_shard(tmp_path / "shard.h5", settings, videos)
    with h5py.File(tmp_path / "shard.h5") as file:
        assert file.attrs["format"].decode() == "mfcd-store"
        assert file.attrs["format_version"] == 1
        assert json.loads(file.attrs["settings"]) == settings.to_dict()
        assert [i.decode() for i in file["videos"]["id"]] == list(videos)
        assert file["videos"]["num_gops"].tolist() == [2, 1, 3]
        assert file["videos"]["first_gop"].tolist() == [0, 2, 3]
        assert file["videos"]["num_frames"].tolist() == [settings.gop_size * n for n in (2, 1, 3)]
        assert file["gops"]["video"].tolist() == [0, 0, 1, 2, 2, 2]
        assert file["gops"]["position"].tolist() == [0, 1, 0, 0, 1, 2]
        for row, gop in enumerate(in_order(videos)):
            for name, array in gop.arrays.items():
                assert np.array_equal(plain(file[name], row), array), name


def test_a_program_without_us_reads_it(tmp_path: Path) -> None:
    videos = noise(SETTINGS, 1)
    write_shard(tmp_path / "shard.h5", SETTINGS, videos)
    script = (
        "import sys, h5py, hdf5plugin\n"
        "differences = h5py.File(sys.argv[1])['motion'][0].astype(int)\n"
        "print(differences.cumsum(0).sum() % 256)\n"
        "assert not any(name.startswith('mfcd') for name in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "shard.h5")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(said) == videos["walk/0"][0].arrays["motion"].sum(dtype=int) % 256


@ALL_SETTINGS
def test_a_chunk_is_one_zstd_frame_with_content_size_and_checksum(tmp_path: Path, settings: StoreSettings) -> None:
    videos = noise(settings, 2)
    write_shard(tmp_path / "shard.h5", settings, videos)
    shard = read_shard_file(tmp_path / "shard.h5")
    data = (tmp_path / "shard.h5").read_bytes()
    with h5py.File(tmp_path / "shard.h5") as file:
        by_h5py = {a.name: [gop.tobytes() for gop in file[a.name]] for a in settings.stored_arrays()}
    for row in range(len(in_order(videos))):
        start = int(shard.gops["offset"][row])
        for column, array in enumerate(settings.stored_arrays()):
            stop = start + int(shard.gops["sizes"][row, column])
            frame = zstandard.get_frame_parameters(data[start:stop])
            assert frame.content_size == np.prod(array.chunk_shape) * array.chunk_dtype.itemsize
            assert frame.has_checksum
            decoder = zstandard.ZstdDecompressor().decompressobj()
            assert decoder.decompress(data[start:stop]) == by_h5py[array.name][row]
            assert decoder.eof
            assert decoder.unused_data == b""
            assert xxhash.xxh3_64_intdigest(data[start:stop]) == shard.gops["checksums"][row, column]
            start = stop


@ALL_SETTINGS
def test_hdf5_finds_the_chunks_where_the_table_says(tmp_path: Path, settings: StoreSettings) -> None:
    write_shard(tmp_path / "shard.h5", settings, noise(settings, 3))
    names = [array.name for array in settings.stored_arrays()]
    assert names[-1] == "motion"
    with h5py.File(tmp_path / "shard.h5") as file:
        for row, gop in enumerate(file["gops"][()]):
            offset = gop["offset"]
            for name, size in zip(names, gop["sizes"], strict=True):
                info = file[name].id.get_chunk_info(row)
                assert (info.byte_offset, info.size, info.filter_mask) == (offset, size, 0)
                offset += size


@pytest.mark.parametrize("num_gops", [1, 2, 300, 1025, 2500])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24"])
def test_many_tiny_chunks_touch_one_another(tmp_path: Path, num_gops: int, pixel_format: str) -> None:
    """Flat frames compress to less than HDF5's own rows about them; over 1024 chunks its index has pages."""
    settings = StoreSettings(2, 2, gop_size=2, pixel_format=pixel_format)
    flat = {array.name: np.zeros(array.shape, array.dtype) for array in settings.stored_arrays()}
    write_shard(tmp_path / "shard.h5", settings, {"flat": [StoredGop(flat, 2)] * num_gops})
    places = read_shard_file(tmp_path / "shard.h5").places.reshape(-1, 2)
    assert np.array_equal(places[:-1].sum(1), places[1:, 0])


@pytest.mark.parametrize("video_id", ["x", "a/b/c", "walk/ü-跳-🎬", "long/" + "x" * 4000, "-v", " ", "a'\"\\\n"])
def test_any_id_comes_back(tmp_path: Path, video_id: str) -> None:
    gops = [random_gop(SETTINGS, np.random.default_rng(0))]
    write_shard(tmp_path / "shard.h5", SETTINGS, {"a": gops, video_id: gops})
    assert read_shard_file(tmp_path / "shard.h5").ids == ["a", video_id]


def test_same_gops_give_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    for name in ("first.h5", "second.h5"):
        write_shard(tmp_path / name, SETTINGS, noise(SETTINGS, 2, 1))
        time.sleep(1.1)  # HDF5's time stamps are in seconds
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()


def test_a_dropped_video_leaves_no_trace(tmp_path: Path) -> None:
    videos = noise(SETTINGS, 2, 1)
    write_shard(tmp_path / "expected.h5", SETTINGS, videos)
    writer = ShardWriter(SETTINGS, tmp_path)
    failing = random_gop(SETTINGS, np.random.default_rng(9))
    for row, (video_id, gops) in enumerate(videos.items()):
        for _ in range(2):
            writer.add_gop(failing.arrays)
        writer.drop_video()
        for gop in gops:
            writer.add_gop(gop.arrays)
        writer.end_video(video_id, 4 * len(gops), row)
    writer.add_gop(failing.arrays)
    writer.drop_video()
    assert writer.write(tmp_path / "shard.h5") == 3
    assert (tmp_path / "shard.h5").read_bytes() == (tmp_path / "expected.h5").read_bytes()


def test_where_every_video_failed_nothing_is_written(tmp_path: Path) -> None:
    writer = ShardWriter(SETTINGS, tmp_path)
    writer.add_gop(random_gop(SETTINGS, np.random.default_rng(0)).arrays)
    writer.drop_video()
    assert writer.write(tmp_path / "shard.h5") == 0
    assert list(tmp_path.iterdir()) == []


def test_gops_beyond_the_memory_limit_wait_in_an_unnamed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = noise(SETTINGS, 2, 1)
    write_shard(tmp_path / "expected.h5", SETTINGS, videos)
    monkeypatch.setattr("mfcd_core.store.writer.SPOOL_BYTES", 100)
    write_shard(tmp_path / "shard.h5", SETTINGS, videos)
    assert (tmp_path / "shard.h5").read_bytes() == (tmp_path / "expected.h5").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("motion", np.zeros((3, 2, 32, 16), np.int16)), ("residual/luma", np.zeros((3, 16, 32), np.int16))],
    ids=["shape", "dtype"],
)
def test_arrays_of_another_shape_or_dtype_are_refused(tmp_path: Path, name: str, wrong: Any) -> None:  # noqa: ANN401
    arrays = dict(random_gop(SETTINGS, np.random.default_rng(0)).arrays)
    writer = ShardWriter(SETTINGS, tmp_path)
    with pytest.raises(ValueError, match=name):
        writer.add_gop({**arrays, name: wrong})
    assert writer.write(tmp_path / "shard.h5") == 0
