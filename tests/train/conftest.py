"""One thread for torch: on a few shared cores its second thread only waits, and waits loudly."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(1)
