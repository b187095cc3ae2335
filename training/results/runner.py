"""Does the jobs of a plan, several at a time, and goes on where it was stopped."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from training.results.job import Job


def run_jobs(jobs: Sequence[Job], runs: Path, cache: Path, at_once: int, console: Console) -> None:
    """Do all that are not done, `at_once` at a time with a thread each.

    Raises:
        TrainingError: one failed; those that were done are kept.
    """
    waiting = [job for job in jobs if job.scores(runs) is None]
    # Fresh interpreters: forking a process that has run torch can hang it.
    context = multiprocessing.get_context("spawn")
    columns = (TextColumn("results"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, TextColumn("{task.fields[last]}"), console=console) as progress,
        ProcessPoolExecutor(at_once, context, _one_thread) as pool,
    ):
        bar = progress.add_task("", total=len(jobs), completed=len(jobs) - len(waiting), last="")
        futures = {pool.submit(job.run, runs, cache): job for job in waiting}
        try:
            for future in as_completed(futures):
                future.result()
                job = futures[future]
                progress.update(bar, advance=1, last=f"{job.setting}, {job.row}, seed {job.seed}")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _one_thread() -> None:
    torch.set_num_threads(1)
