"""Does the jobs of a plan, several at a time, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tessera.errors import TrainingError
from training.results.job import Job
from training.workers import start_worker, worker_pool


def run_jobs(jobs: Sequence[Job], runs: Path, cache: Path, at_once: int, console: Console) -> None:
    """Do all that are not done, `at_once` at a time with a thread each.

    When one fails, or at an interrupt, the others are stopped: a training saves its step, and goes on from there when
    its job is done again.

    Raises:
        TrainingError: one failed, or its process died; those that were done are kept.
    """
    waiting = [job for job in jobs if job.scores(runs) is None]
    columns = (TextColumn("results"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[last]}"), console=console) as progress:
        bar = progress.add_task("", total=len(jobs), completed=len(jobs) - len(waiting), last="")
        with closing(_done(waiting, runs, cache, at_once)) as done:
            for job in done:
                progress.update(bar, advance=1, last=f"{job.setting}, {job.row}, seed {job.seed}")


def _done(jobs: Sequence[Job], runs: Path, cache: Path, at_once: int) -> Generator[Job, None, None]:
    """Each job as it is done."""
    todo, running = iter(jobs), dict[Future[None], Job]()
    with worker_pool(at_once, _start) as pool:
        try:
            while True:
                # No more than are worked on: one that waited in the pool would be begun after all have been stopped.
                for job in islice(todo, at_once - len(running)):
                    running[pool.submit(job.run, runs, cache)] = job
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    yield running.pop(future)
        except BrokenProcessPool:
            names = ", ".join(f"{job.setting}, {job.row}, seed {job.seed}" for job in running.values())
            raise TrainingError(f"a process died at one of these: {names}; is the memory enough?") from None


def _start() -> None:
    """By now all that jobs compute with is loaded, with this module."""
    start_worker()
