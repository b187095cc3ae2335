"""What training needs of other processes. With one process everything here returns what it was given.

Process r of W holds rows r*B to (r+1)*B of a batch of W*B clips, so that gathering restores the order of the batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """The number of this process, from zero."""
    return dist.get_rank() if _is_distributed() else 0


def all_reduce_sum(*tensors: Tensor) -> None:
    """Add up each tensor over all processes, in place."""
    if _is_distributed():
        for tensor in tensors:
            dist.all_reduce(tensor)


def gather(own: Tensor) -> Tensor:
    """Rows [B, ...] of every process -> the rows of the whole batch [W*B, ...].

    The gradient of a row goes back to the process that it came from, summed over all processes. Processes hold
    equally many rows.
    """
    if not _is_distributed():
        return own
    gathered: Tensor = _Gather.apply(own)  # type: ignore[no-untyped-call]
    return gathered


def own_rows(whole: Tensor) -> Tensor:
    """The part [B, ...] of this process in a tensor [W*B, ...] of the whole batch."""
    return whole.chunk(world_size())[rank()]


def own_positions(rows: int, device: torch.device) -> Tensor:
    """Where the `rows` of this process lie in the whole batch, i64 [rows]."""
    return torch.arange(rows, device=device) + rank() * rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        dist.all_reduce(gradient)
        return own_rows(gradient)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
