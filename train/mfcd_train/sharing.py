"""Who takes which draws: a step's batch is shared by processes, and by each in parts where memory is short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import nn

    from mfcd_core.store import Store
    from mfcd_train.dataset import Draws

MAX_NAMED_GOPS = 32


def check_shares(num_draws: int, batch_size: int, num_parts: int, peers: int) -> None:
    """Raise UsageError where a batch cannot be shared evenly, or there are too few draws for one."""
    shares = peers * num_parts
    if batch_size % shares:
        raise UsageError(
            f"data.batch_size {batch_size} for {peers} processes with optim.accumulate {num_parts}: expected a "
            f"multiple of {shares}, such as {-(-batch_size // shares) * shares}"
        )
    if num_draws < shares:
        raise UsageError(
            f"{num_draws} training videos for {peers} processes with optim.accumulate {num_parts}: expected {shares} "
            "or more; take fewer processes or parts"
        )


def count_steps(num_draws: int, batch_size: int) -> int:
    """Steps of an epoch: an incomplete batch is left out, unless it is all there is."""
    return max(num_draws // batch_size, 1)


def part_rows(num_draws: int, batch_size: int, num_parts: int, rank: int, peers: int) -> NDArray[np.int64]:
    """Rows of the draws that a process takes: (steps, num_parts, clips a part).

    Of each batch, process `rank` of `peers` takes every peers-th draw, and its part k of those every num_parts-th: so
    part k of process r is what part k * peers + r would be for one process with peers * num_parts parts.
    """
    shares = peers * num_parts
    num_steps, size = count_steps(num_draws, batch_size), min(batch_size, num_draws // shares * shares)
    rows = np.arange(num_steps * size).reshape(num_steps, size // shares, num_parts, peers)
    return rows[..., rank].swapaxes(1, 2)


def dealt_rows(num_draws: int, batch_size: int, rank: int, peers: int) -> NDArray[np.int64]:
    """Rows of the draws that a process evaluates: whole batches, dealt in turn, each to one process.

    The batches are those of one process alone, and so are the scores, bit for bit.
    """
    rows = np.arange(num_draws)
    return np.flatnonzero(rows // batch_size % peers == rank)


def name_gops(store: Store, parts: Sequence[Draws]) -> str:
    """Draws as `video id:GOP of the video`, in one line."""
    gops = [gop for draws in parts for gop in zip(draws.video.tolist(), draws.gop.tolist(), strict=True)]
    names = [f"{store.videos.id(row)}:{gop - store.videos.first_gop[row]}" for row, gop in gops[:MAX_NAMED_GOPS]]
    return ", ".join(names) + (f" and {len(gops) - MAX_NAMED_GOPS} more" if len(gops) > MAX_NAMED_GOPS else "")


def any_process(fabric: Fabric, own: bool) -> bool:  # noqa: FBT001 - a value, not a switch
    """Whether it holds for any process."""
    if fabric.world_size == 1:
        return own
    found: Any = fabric.all_reduce(torch.tensor(float(own), device=fabric.device), reduce_op="sum")
    return bool(found)


def total(fabric: Fabric, own: int) -> int:
    """Sum over all processes."""
    if fabric.world_size == 1:
        return own
    found: Any = fabric.all_reduce(torch.tensor(own, device=fabric.device), reduce_op="sum")
    return int(found)


def means(fabric: Fabric, record: Mapping[str, Any]) -> dict[str, float]:
    """Plain numbers by name: means over all processes, which give the same names."""
    values = torch.tensor([float(value) for value in record.values()], dtype=torch.float64, device=fabric.device)
    mean: Any = fabric.all_reduce(values, reduce_op="mean")
    return dict(zip(record, mean.tolist(), strict=True))


def share_buffers(fabric: Fabric, network: nn.Module) -> None:
    """Give every process the batch statistics of the first one."""
    if fabric.world_size > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
