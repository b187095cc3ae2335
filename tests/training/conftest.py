"""What tests of training share: one thread, and equal draws for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Several threads only wait for each other on small tensors, worse the busier the machine is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def draws() -> torch.Generator:
    """What a method draws alike in all processes."""
    return torch.Generator().manual_seed(3)
