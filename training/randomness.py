"""All randomness of a run is a function of its seed, the step and the process, so that resuming needs no state."""

from __future__ import annotations

import numpy as np
import torch

from training.distributed import rank

_SHARED, _OWN = 0, 1


def seed_everything(seed: int) -> None:
    """Seed what fresh weights are drawn from; the same in every process."""
    torch.manual_seed(seed)


def begin_step(seed: int, step: int, part: int = 0) -> torch.Generator:
    """Seed torch for one part of one step, unlike in other processes, and return a generator that is alike in all."""
    torch.manual_seed(_mixed(seed, step, part, _OWN, rank()))
    return torch.Generator().manual_seed(_mixed(seed, step, part, _SHARED))


def epoch_order(clips: int, seed: int, epoch: int) -> torch.Tensor:
    """A permutation of the clips for each epoch, i64 [clips]."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(clips, generator=generator)


def _mixed(*numbers: int) -> int:
    words = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return int(words[0]) << 31 | int(words[1]) >> 1
