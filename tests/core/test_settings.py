"""What all GOPs of a store have in common: parsed once, refused with what was expected."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from mfcd_core.errors import StoreError, UsageError
from mfcd_core.store.settings import StoreSettings

SETTINGS = StoreSettings(64, 48, gop_size=16, residual_step=4, encoder={"quality": 2})


def test_settings_survive_json_and_pickle() -> None:
    assert StoreSettings.from_dict(json.loads(json.dumps(SETTINGS.to_dict()))) == SETTINGS
    assert pickle.loads(pickle.dumps(SETTINGS)) == SETTINGS  # noqa: S301, our own bytes


def test_unknown_keys_are_ignored_and_missing_ones_take_the_default() -> None:
    assert StoreSettings.from_dict({"width_px": 64, "height_px": 48, "new": 1}) == StoreSettings(64, 48)


@pytest.mark.parametrize("values", [{}, {"width_px": 64}, {"width_px": 64, "height_px": "48"}, 7, None, []])
def test_settings_that_cannot_be_parsed_are_a_store_error(values: object) -> None:
    with pytest.raises(StoreError, match="settings of the store are not usable"):
        StoreSettings.from_dict(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width_px", 63),
        ("height_px", 0),
        ("width_px", 8192),
        ("height_px", -2),
        ("gop_size", 1),
        ("gop_size", 256),
        ("pixel_format", "yuv444p"),
        ("trace", "half"),
        ("residual_step", 3),
        ("level", 23),
        ("level", "best"),
        ("compression", "gzip"),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_expected(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name} is {value!r}: expected"):
        StoreSettings(**{"width_px": 64, "height_px": 48, name: value})


def test_arrays_lie_in_the_order_of_the_format_motion_last() -> None:
    found = [(array.name, array.dtype.str, array.shape) for array in SETTINGS.stored_arrays()]
    assert found == [
        ("iframe/luma", "|u1", (48, 64)),
        ("iframe/chroma", "|u1", (2, 24, 32)),
        ("residual/luma", "|i1", (15, 48, 64)),
        ("residual/chroma", "|i1", (15, 2, 24, 32)),
        ("motion", "<i2", (15, 2, 48, 64)),
    ]
    rgb = StoreSettings(64, 48, pixel_format="rgb24", residual_step=1).stored_arrays()
    assert [(array.name, array.dtype, array.shape) for array in rgb[:2]] == [
        ("iframe/rgb", np.uint8, (48, 64, 3)),
        ("residual/rgb", np.int16, (11, 48, 64, 3)),
    ]


def test_chunks_hold_digits_of_four_rows_and_motion_row_by_row() -> None:
    found = [(" ".join(a.chunk_axes), a.chunk_dtype.str, a.chunk_shape, a.modulo) for a in SETTINGS.stored_arrays()]
    assert found == [
        ("digit quad column", "|u1", (4, 12, 64), 256),
        ("digit channel quad column", "|u1", (4, 2, 6, 32), 256),
        ("digit frame quad column", "|u1", (4, 15, 12, 64), 256),
        ("digit frame channel quad column", "|u1", (4, 15, 2, 6, 32), 256),
        ("row frame component column", "|u1", (48, 15, 2, 64), 256),
    ]
    iframe, residual, _ = StoreSettings(64, 50, pixel_format="rgb24", residual_step=1).stored_arrays()
    assert iframe.chunk_shape == (4, 13, 64, 3)  # 50 rows are 12 quads and a half
    assert (residual.chunk_axes, residual.chunk_shape) == (
        ("digit", "frame", "quad", "column", "channel"),
        (8, 11, 13, 64, 3),  # eight digits of base 4 are 16 bits
    )


@pytest.mark.parametrize(
    ("size", "dtype", "modulo"),
    [((256, 256), np.uint8, 256), ((258, 2), np.int16, 65536), ((2, 258), np.int16, 65536)],
)
def test_motion_takes_one_byte_while_that_says_everything(size: tuple[int, int], dtype: type, modulo: int) -> None:
    motion = StoreSettings(*size).stored_arrays()[-1]
    assert (motion.read_dtype, motion.modulo, motion.dtype) == (dtype, modulo, np.int16)
