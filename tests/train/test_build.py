"""What runs on a CPU in bf16: gradients that do not hang on what was in memory before."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from mfcd_train.build import LEAST_BF16_CROP, LEAST_BF16_FRAMES

GRADIENTS = """
import json, sys
import torch
from mfcd_train.models.mfnet3d import MFNet3D

torch.set_num_threads(1)
assert torch.empty(100_000).view(torch.int32)[0] == 0x7F7F7F7F, "fresh memory is not filled"
largest = {}
for frames, crop in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    network = MFNet3D(3, 0.25, (2, 2, 2, 2)).to(memory_format=torch.channels_last_3d)
    clips = torch.randn(2, 3, frames, crop, crop).contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(clips)
    torch.nn.functional.cross_entropy(logits.float(), torch.arange(2)).backward()
    largest[f"{frames}x{crop}"] = max(p.grad.abs().max().item() for p in network.parameters())
print(json.dumps(largest))
"""


def largest_gradients(*clips: tuple[int, int]) -> dict[str, float]:
    """Largest entry of any gradient, by clip, where malloc fills what it gives with bytes 0x7f: floats of 3.4e38."""
    filled = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.perturb=128:glibc.malloc.tcache_count=0"}
    command = [sys.executable, "-c", GRADIENTS, json.dumps(clips)]
    done = subprocess.run(command, env=filled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its malloc can fill memory")
def test_bf16_gradients_of_the_clips_that_are_taken_are_written_whole() -> None:
    least = LEAST_BF16_FRAMES, LEAST_BF16_CROP
    sizes = [least, (LEAST_BF16_FRAMES, 32), (12, LEAST_BF16_CROP), (12, 28), (12, 33), (12, 64), (16, 64)]
    found = largest_gradients(*sizes)
    assert len(found) == len(sizes)
    assert 0 < max(found.values()) < 1e3, found
