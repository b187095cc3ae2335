"""The bench itself: every side in a fresh process, all sides taking their steps by turns.

A process of its own makes the peak of memory honest; taking turns lets what else the machine does fall on all alike.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tessera.errors import TrainingError
from training.bench.jobs import Device, Job, Ready, Step
from training.bench.report import Method, Report, machine_of, method_of, now
from training.config import Recipe

Precision = Literal["float32", "bfloat16"]


def run_bench(
    recipes: Sequence[Recipe],
    *,
    batch: int,
    steps: int,
    device: Device,
    precisions: Sequence[Precision],
    console: Console,
) -> Report:
    """Measure `recipes` of DCID or FCID against their transcriptions.

    Each side takes `steps` steps; the first one warms up and is left out, unless it is the only one.

    Raises:
        TrainingError: a side failed, of too little memory for instance.
    """
    warm_up = min(1, steps - 1)
    methods: list[Method] = []
    ready: Ready | None = None
    for recipe in recipes:
        jobs = _jobs(recipe.with_training(batch_size=batch), device, precisions)
        with ExitStack() as stack:
            workers = [stack.enter_context(started(job)) for job in jobs]
            ready = workers[0].ready
            taken = _take_turns(recipe.name, workers, steps, console)
        methods.append(method_of([(job, of_job[warm_up:]) for job, of_job in zip(jobs, taken, strict=True)]))
    assert ready is not None, "there is a recipe at least. This is a bug."
    return Report(
        date=now(),
        machine=machine_of(ready),
        batch=batch,
        measured_steps=steps - warm_up,
        warm_up_steps=warm_up,
        methods=methods,
    )


def _jobs(recipe: Recipe, device: Device, precisions: Sequence[Precision]) -> list[Job]:
    """The transcription first; ours as published; and ours with the branch of our own recipes."""
    jobs = [Job(program="transcription", recipe=recipe, device=device)]
    for branch in ("convolutions", "mean"):
        seen = recipe.model_dump()
        seen["model"]["video_branch"] = branch
        for precision in precisions:
            ours = Recipe.parse(seen).with_training(precision=precision)
            jobs.append(Job(program="tessera", recipe=ours, device=device))
    return jobs


def _take_turns(name: str, workers: list[Worker], steps: int, console: Console) -> list[list[Step]]:
    taken: list[list[Step]] = [[] for _ in workers]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(name, total=steps * len(workers))
        for _ in range(steps):
            for worker, of_worker in zip(workers, taken, strict=True):
                title = f"{name}: {worker.job.title}"
                progress.update(bar, description=title)
                step = worker.step()
                of_worker.append(step)
                progress.advance(bar)
                progress.console.print(f"{title}: {step.seconds:.3g} s", style="dim", highlight=False)
    return taken


class Worker:
    """A process that takes training steps when asked to."""

    def __init__(self, job: Job, process: subprocess.Popen[str]) -> None:
        self.job, self.process = job, process
        self.ready = Ready.model_validate_json(self._ask(job.model_dump_json()))

    def step(self) -> Step:
        """Let it take a step.

        Raises:
            TrainingError: the process ended instead.
        """
        return Step.model_validate_json(self._ask("step"))

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise TrainingError(
                f"bench: {self.job.title}: the process ended with status {self.process.wait()}"
            )
        return answer


@contextmanager
def started(job: Job) -> Iterator[Worker]:
    """A worker with its model built; it ends with the block.

    Raises:
        TrainingError: it could not be started.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "training.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Worker(job, process)
    except BaseException:
        process.kill()
        raise
    finally:
        # The end of its input is the end of the worker.
        process.communicate()
