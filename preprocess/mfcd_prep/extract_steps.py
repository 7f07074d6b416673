"""Where the time of a GOP goes on its way from a file to a shard, step by step."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from mfcd_core.residual import residual_plane
from mfcd_core.store.index import file_checksum
from mfcd_core.store.layout import read_shard_file
from mfcd_core.store.writer import ShardWriter
from mfcd_prep.bitstream import opened, video_stream
from mfcd_prep.decode import iter_frames
from mfcd_prep.gops import GopTracer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mfcd_core.store.settings import StoreSettings

STEPS = ("decode", "vectors", "trace", "residual", "quantise", "compress", "checksum", "write")


def decode_alone(paths: Sequence[Path]) -> int:
    """Decode with PyAV on one thread and look at nothing; returns the number of frames."""
    num_frames = 0
    for path in paths:
        with opened(path) as container:
            stream = video_stream(container)
            stream.thread_type = "NONE"
            num_frames += sum(1 for _ in container.decode(stream))
    return num_frames


def time_steps(paths: Sequence[Path], settings: StoreSettings, folder: Path) -> dict[str, float]:
    """CPU seconds of each of STEPS, all whole GOPs of `paths` together; writes a shard into `folder`.

    `trace` and `residual` pack what they give, frame by frame.
    """
    watch = StopWatch()
    with watch.timed("decode"):
        decode_alone(paths)
    writer = ShardWriter(settings, folder)
    tracer = GopTracer(settings, writer.packer)
    for row, path in enumerate(paths):
        num_gops = _time_video(watch, path, settings, tracer, writer)
        writer.end_video(f"{row:08}", num_gops * settings.gop_size, row)
    shard = folder / "steps.h5"
    with watch.timed("write"):
        num_gops = writer.write(shard)
        file_checksum(shard)
    for chunk in _read_chunks(shard):
        with watch.timed("checksum"):
            xxhash.xxh3_64_intdigest(chunk)
    seconds = watch.seconds
    seconds["vectors"] -= seconds["decode"]
    seconds["quantise"] = num_gops * time_quantize(settings)
    seconds["residual"] -= seconds["quantise"]
    seconds["compress"] -= seconds["checksum"]
    return {step: seconds[step] for step in STEPS}


class StopWatch:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add what the block takes to `step`."""
        start = time.process_time()
        yield
        self.seconds[step] += time.process_time() - start


def _time_video(watch: StopWatch, path: Path, settings: StoreSettings, tracer: GopTracer, writer: ShardWriter) -> int:
    """What `iter_gops` and the writer do, by step; decoding and vectors together as `vectors`. Returns whole GOPs."""
    frames = iter_frames(path, settings.pixel_format, settings.trace)
    num_frames = 0
    while True:
        with watch.timed("vectors"):
            frame = next(frames, None)
        if frame is None:
            return num_frames // settings.gop_size
        position = num_frames % settings.gop_size
        num_frames += 1
        if position == 0:
            with watch.timed("residual"):
                tracer.begin(frame)
            continue
        with watch.timed("trace"):
            tracer.trace(position, frame.blocks)
        with watch.timed("residual"):
            tracer.subtract(position, frame)
        if position == settings.gop_size - 1:
            with watch.timed("compress"):
                writer.end_gop()


def _read_chunks(shard: Path) -> Iterator[bytes]:
    gops = read_shard_file(shard).gops
    with shard.open("rb") as file:
        for gop in gops:
            file.seek(int(gop["offset"]))
            for size in gop["sizes"]:
                yield file.read(int(size))


def time_quantize(settings: StoreSettings, num_rounds: int = 10) -> float:
    """CPU seconds a GOP of `residual_plane`: differences to what is warped, quantized."""
    planes = [array for array in settings.stored_arrays() if array.name.startswith("residual/")]
    residuals = [np.zeros((1, int(np.prod(plane.shape[:-1])), plane.shape[-1]), plane.dtype) for plane in planes]
    levels = [np.zeros(residual.shape, np.uint8) for residual in residuals]
    start = 0.0
    for number in range(num_rounds + 1):
        if number == 1:  # the first round compiles
            start = time.process_time()
        for level, residual in zip(levels, residuals, strict=True):
            residual_plane((level[0],), level, settings.residual_step, residual)
    return (time.process_time() - start) / num_rounds
