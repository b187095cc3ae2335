"""Does the jobs of a plan, several at a time, and goes on where it was stopped."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tessera.errors import TrainingError
from training.results.job import Document, Job
from training.results.ledger import Ledger
from training.workers import start_worker, worker_pool


def run_jobs(
    jobs: Sequence[Job], ledger: Ledger, runs: Path, cache: Path, at_once: int, console: Console
) -> None:
    """Do all that are not in the ledger, `at_once` at a time with a thread each, and write them there.

    A training's folder in `runs` goes when its scores are written.

    When one fails, or at an interrupt, the others are stopped: a training saves its step, and goes on from there when
    its job is done again.

    Raises:
        TrainingError: one failed, or its process died; those that were done are kept.
    """
    distinct = {job.key: job for job in jobs}
    waiting = [job for job in distinct.values() if ledger.scores(job) is None]
    columns = (TextColumn("results"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[last]}"), console=console) as progress:
        bar = progress.add_task("", total=len(distinct), completed=len(distinct) - len(waiting), last="")
        with closing(_done(waiting, runs, cache, at_once)) as done:
            for job, scores in done:
                ledger.add(job, scores)
                # What could not be removed is in nobody's way.
                shutil.rmtree(job.folder(runs), ignore_errors=True)
                progress.update(bar, advance=1, last=f"{job.setting}, {job.row}, seed {job.seed}")


def _done(
    jobs: Iterable[Job], runs: Path, cache: Path, at_once: int
) -> Generator[tuple[Job, Document], None, None]:
    """Each job as it is done, and what it came to."""
    todo, running = iter(jobs), dict[Future[Document], Job]()
    with worker_pool(at_once, _start) as pool:
        try:
            while True:
                # No more than are worked on: one that waited in the pool would be begun after all have been stopped.
                for job in islice(todo, at_once - len(running)):
                    running[pool.submit(job.make, job.folder(runs), cache)] = job
                if not running:
                    return
                ended = wait(running, return_when=FIRST_COMPLETED).done
                # One that failed comes last: those that ended with it are kept.
                for future in sorted(ended, key=lambda one: one.exception() is not None):
                    scores = future.result()
                    yield running.pop(future), scores
        except BrokenProcessPool:
            names = ", ".join(f"{job.setting}, {job.row}, seed {job.seed}" for job in running.values())
            raise TrainingError(f"a process died at one of these: {names}; is the memory enough?") from None


def _start() -> None:
    """By now all that jobs compute with is loaded, with this module."""
    start_worker()
