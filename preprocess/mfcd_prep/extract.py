"""From encoded videos to a store: plan the shards, extract those that are missing, index last (DESIGN 4)."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import xxhash

from mfcd_core.atomic import publish
from mfcd_core.console import progress, warn
from mfcd_core.errors import VideoError
from mfcd_core.splits import merge_splits, parse_split_file, random_split, resolve_splits
from mfcd_core.store.index import GOPS, INDEX, NO_LABEL, ShardEntry, StoreIndex, Videos, file_checksum
from mfcd_core.store.index import gop_place_dtype, split_rows, write_index
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.partition import partition
from mfcd_core.store.settings import StoreSettings
from mfcd_core.store.writer import ShardWriter
from mfcd_prep.gops import GopTracer, iter_gops
from mfcd_prep.jobs import Done, run_tasks
from mfcd_prep.journal import Journal, read_journal
from mfcd_prep.survey import survey_encoded
from mfcd_prep.workspace import file_stat, own_folder, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mfcd_core.splits import Splits
    from mfcd_prep.jobs import Outcome
    from mfcd_prep.survey import EncodedVideo, Survey

JOURNAL_NAME = "extract.jsonl"
PACKAGES = ("mfcd", "av", "h5py", "numpy", "zstandard")


@dataclass(frozen=True)
class ExtractOptions:
    """What a user may choose; the rest of `StoreSettings` comes with the encoded videos."""

    pixel_format: str = "yuv420p"
    trace: str = "subpel"
    residual_step: int = 2
    level: int = 1
    tail: str = "auto"
    shard_gops: int = 256
