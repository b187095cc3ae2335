"""What is asked of a device: jobs of blocks, the slices of them that ride in batches, and their answers. Plain data."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tessera.windows import Arrays, Modality, Stage, Window

Lane = Literal["interactive", "bulk"]
"""`interactive` is somebody who waits; `bulk` takes what is left of the device, and a little always."""

BlockKey = tuple[Modality, Stage, tuple[tuple[str, tuple[int, ...], str], ...]]


@dataclass(slots=True, eq=False)
class Block:
    """`count` windows of equal shape, stacked along a first axis; `segments` are those of one window."""

    modality: Modality
    stage: Stage
    inputs: Arrays
    segments: int
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(next(iter(self.inputs.values())))

    @classmethod
    def of(cls, window: Window) -> Block:
        """One window."""
        inputs = {name: array[None] for name, array in window.inputs.items()}
        return cls(window.modality, window.stage, inputs, window.segments)

    @property
    def key(self) -> BlockKey:
        """Blocks with equal keys can share a batch."""
        shapes = tuple((name, array.shape[1:], array.dtype.char) for name, array in self.inputs.items())
        return self.modality, self.stage, shapes

    @property
    def bytes(self) -> int:
        """What its arrays take."""
        return sum(array.nbytes for array in self.inputs.values())


@dataclass(slots=True, frozen=True)
class BlockAnswer:
    """The outputs [windows, ...] for a block, and the windows that the graphs cannot run, with the reason."""

    outputs: Mapping[str, NDArray[Any]]
    failures: Mapping[int, Exception]


@dataclass(slots=True, frozen=True)
class Answer:
    """What became of each block; seconds the job waited, and seconds its batches took of the device.

    When it was `submitted`, and when each of its batches began and ended, are on the clock of `time.perf_counter`,
    which the processes of a machine share.
    """

    blocks: list[BlockAnswer]
    queue_sec: float
    infer_sec: float
    submitted: float = 0.0
    runs: Sequence[tuple[float, float]] = ()


@dataclass(slots=True, eq=False)
class Job:
    """Blocks that were submitted together and are answered together, through one future.

    `window_micros` is what one window of each block costs, `micros` all of them; `deadline` is on the clock of
    `time.perf_counter`. Without `full`, codes alone are wanted.
    """

    blocks: Sequence[Block]
    window_micros: Sequence[int]
    future: asyncio.Future[Answer]
    submitted: float
    lane: Lane = "interactive"
    full: bool = True
    deadline: float | None = None
    infer_sec: float = 0.0
    left: int = field(init=False)
    micros: int = field(init=False)
    pieces: list[list[tuple[int, Arrays]]] = field(init=False)
    failures: list[dict[int, Exception]] = field(init=False)
    runs: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.micros = 0
        for block, micros in zip(self.blocks, self.window_micros, strict=True):
            self.left += block.count
            self.micros += block.count * micros
        self.pieces = [[] for _ in self.blocks]
        self.failures = [{} for _ in self.blocks]

    def expired(self, now: float) -> bool:
        """Whether its answer would come too late."""
        return self.deadline is not None and now > self.deadline

    def answer(self, now: float) -> Answer:
        """All answers in order, once nothing is left."""
        assert not self.left, "a job is answered when each of its windows is. This is a bug."
        blocks = [
            BlockAnswer(_joined(pieces, failures), failures)
            for pieces, failures in zip(self.pieces, self.failures, strict=True)
        ]
        waited = now - self.submitted - self.infer_sec
        return Answer(blocks, waited, self.infer_sec, self.submitted, sorted(self.runs))


def _joined(pieces: list[tuple[int, Arrays]], failures: Mapping[int, Exception]) -> Arrays:
    """The outputs of all windows of a block, in order; those of windows that failed are zero."""
    if len(pieces) == 1 and not failures:
        return pieces[0][1]
    rows = dict(pieces)
    if not rows:
        return {}
    # A part of a job for codes alone has more than codes where somebody beside it in the batch wanted more.
    least = min(rows.values(), key=len)
    for row in failures:
        rows[row] = {name: np.zeros_like(array[:1]) for name, array in least.items()}
    ordered = [rows[start] for start in sorted(rows)]
    return {name: np.concatenate([piece[name] for piece in ordered]) for name in least}


@dataclass(slots=True)
class Slice:
    """Windows `start` to `stop` of one block of a job."""

    job: Job
    block: int
    start: int
    stop: int
    arrival: int

    @property
    def count(self) -> int:
        """How many windows."""
        return self.stop - self.start

    @property
    def inputs(self) -> Arrays:
        """Their arrays: views."""
        block = self.job.blocks[self.block]
        if self.count == block.count:
            return block.inputs
        return {name: array[self.start : self.stop] for name, array in block.inputs.items()}

    @property
    def micros(self) -> int:
        """What they cost."""
        return self.count * self.job.window_micros[self.block]

    def split(self, count: int) -> Slice:
        """Cut off and return the first `count` windows."""
        head = Slice(self.job, self.block, self.start, self.start + count, self.arrival)
        self.start = head.stop
        return head

    def answer(self, outputs: Arrays, first: int) -> None:
        """Its answers begin at row `first` of the outputs of a batch."""
        self.job.pieces[self.block].append(
            (self.start, {name: array[first : first + self.count] for name, array in outputs.items()})
        )
        self.job.left -= self.count

    def fail(self, error: Exception) -> None:
        """Its one window cannot be run."""
        self.job.failures[self.block][self.start] = error
        self.job.left -= 1
