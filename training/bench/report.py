"""The figures of the bench, as JSON and as a table."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from statistics import median

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.bench.jobs import Job, Ready, Step


class Machine(BaseModel):
    """Where the figures come from."""

    system: str
    processor: str
    device: str
    cores: int | None
    threads: int
    python: str
    torch: str
    tessera: str


class Side(BaseModel):
    """What was measured of one side. Ratios are to the transcription: times as fast, and its share of memory."""

    program: str
    precision: str
    video_branch: str
    seconds: list[float]
    median_seconds: float
    peak_memory_bytes: int
    last_loss: float
    speedup: float
    memory_ratio: float


class Method(BaseModel):
    """All sides of one recipe."""

    recipe: str
    sides: list[Side]


class Report(BaseModel):
    """`warm_up_steps` were taken by each side before those that were measured."""

    benchmark: str = "train"
    date: str
    machine: Machine
    batch: int
    measured_steps: int
    warm_up_steps: int
    methods: list[Method]

    def table(self) -> Table:
        """A row a side."""
        table = Table(title=f"a training step of {self.batch} clips", box=SIMPLE_HEAD)
        table.add_column("recipe", no_wrap=True)
        table.add_column("program", no_wrap=True)
        for head in ("seconds", "times as fast", "peak GB", "share of memory"):
            table.add_column(head, justify="right")
        for method in self.methods:
            for side in method.sides:
                table.add_row(
                    method.recipe,
                    f"{side.program}, {side.precision}" + ", mean" * (side.video_branch == "mean"),
                    f"{side.median_seconds:.3g}",
                    f"{side.speedup:.2f}",
                    f"{side.peak_memory_bytes / 1e9:.2f}",
                    f"{side.memory_ratio:.2f}",
                )
        return table


def now() -> str:
    """The time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def machine_of(ready: Ready) -> Machine:
    """This machine, as a worker saw it."""
    return Machine(
        system=platform.system(),
        processor=platform.machine(),
        device=ready.device_name,
        cores=os.cpu_count(),
        threads=ready.threads,
        python=platform.python_version(),
        torch=ready.torch,
        tessera=version("tessera"),
    )


def method_of(measured: list[tuple[Job, list[Step]]]) -> Method:
    """From the measured steps of each side; the first side is what the others are compared with."""
    _, baseline = measured[0]
    seconds, memory = median(step.seconds for step in baseline), baseline[-1].peak_memory_bytes
    return Method(
        recipe=measured[0][0].recipe.name,
        sides=[_side(job, steps, seconds, memory) for job, steps in measured],
    )


def _side(job: Job, steps: list[Step], baseline_seconds: float, baseline_memory: int) -> Side:
    taken = median(step.seconds for step in steps)
    peak = steps[-1].peak_memory_bytes
    return Side(
        program=job.program,
        precision=job.precision,
        video_branch=job.recipe.model.video_branch,
        seconds=[round(step.seconds, 4) for step in steps],
        median_seconds=round(taken, 4),
        peak_memory_bytes=peak,
        last_loss=steps[-1].loss,
        speedup=round(baseline_seconds / taken, 3),
        memory_ratio=round(peak / baseline_memory, 4),
    )
