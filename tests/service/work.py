"""Jobs and blocks of features, small enough to be counted by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from service.jobs import Block, Job, Lane


def block(segments: int, *values: float) -> Block:
    """Windows of so many segments, each of one value."""
    stacked = np.repeat(np.array(values, np.float32), segments * 2).reshape(len(values), segments, 2)
    return Block("audio", "features", {"features": stacked}, segments)


def job(
    loop: asyncio.AbstractEventLoop,
    blocks: Sequence[Block],
    *,
    micros: int = 1,
    lane: Lane = "interactive",
    full: bool = True,
    deadline: float | None = None,
) -> Job:
    """A job whose segments cost `micros` each."""
    costs = [each.segments * micros for each in blocks]
    return Job(blocks, costs, loop.create_future(), 0.0, lane, full, deadline)
