"""The two collectives that training needs; without a process group they do nothing."""

from __future__ import annotations

import torch.distributed
from torch import Tensor


def all_reduce_sum(*tensors: Tensor) -> None:
    """Add up each tensor over all processes, in place."""
    if _is_distributed():
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)


def of_first_process(tensor: Tensor) -> Tensor:
    """`tensor` as the first process has it, in place and returned."""
    if _is_distributed():
        torch.distributed.broadcast(tensor, src=0)
    return tensor


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
