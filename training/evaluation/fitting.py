"""Fits a head on the vectors of codes: Adam, a rate that halves three times, gradients of the head clipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Vectors = Callable[[int], Tensor]
"""The vectors [N, T, D] that an epoch sees; where codes do not change, the same every time."""


@dataclass(frozen=True)
class Fitting:
    """How a head is fitted; the defaults are those of the released scripts."""

    epochs: int
    precision: torch.dtype = torch.float32
    batch_size: int = 80
    learning_rate: float = 4e-4
    milestones: tuple[int, ...] = (10, 20, 30)
    factor: float = 0.5
    clip_norm: float = 0.5


def fit_head(
    head: nn.Module,
    loss: nn.Module,
    vectors: Vectors,
    targets: Tensor,
    fitting: Fitting,
    seed: int,
    after_epoch: Callable[[], None] | None = None,
) -> None:
    """Fit `head` and what `loss` learns on clips with `targets` [N, ...], in an order drawn from `seed`.

    `after_epoch` is called after every epoch with the head in evaluation mode.
    """
    head.to(fitting.precision)
    loss.to(fitting.precision)
    optimizer = torch.optim.Adam([*head.parameters(), *loss.parameters()], lr=fitting.learning_rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(fitting.milestones), fitting.factor)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(fitting.epochs):
        head.train()
        seen = vectors(epoch)
        for rows in torch.split(torch.randperm(len(targets), generator=generator), fitting.batch_size):
            optimizer.zero_grad()
            loss(head(seen[rows].to(fitting.precision)), targets[rows]).backward()
            nn.utils.clip_grad_norm_(head.parameters(), fitting.clip_norm)
            optimizer.step()
        schedule.step()
        head.eval()
        if after_epoch is not None:
            after_epoch()


@torch.no_grad()
def scores_of(head: nn.Module, vectors: Tensor, batch_size: int = 80) -> Tensor:
    """What a fitted head says of `vectors` [N, T, D], batch by batch."""
    precision = next(head.parameters()).dtype
    return torch.cat([head(part.to(precision)) for part in torch.split(vectors, batch_size)])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws of torch inside come from `seed`; those outside go on as if nothing had been drawn."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
