"""`tessera results`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.cli import require_extra

require_extra("train", "torch", "sklearn", "scipy", "matplotlib", "lightning_fabric")


def results(
    plans: Annotated[
        list[str], typer.Argument(help="Names of plans in training/results/plans, or paths to others.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Markdown file to write; .json and .png go beside it.")
    ] = Path("docs/results.md"),
    seeds: Annotated[int, typer.Option(help="Seeds of every row.", min=1)] = 5,
    jobs: Annotated[int, typer.Option(help="How many trainings at a time, a thread each.", min=1)] = 2,
    runs: Annotated[Path, typer.Option(help="Folder of the trainings; what is done there stays.")] = Path(
        "runs/results"
    ),
    cache: Annotated[
        Path, typer.Option("--cache", help="Folder where features are kept between runs.")
    ] = Path("runs/cache"),
) -> None:
    """Train and score every recipe of some plans, and write their tables.

    Stop it at any time; the same command goes on, and more seeds add to those that are there.
    """
    from rich.console import Console

    from training.results.plan import Plan
    from training.results.report import require_report_path, write_report
    from training.results.runner import run_jobs
    from training.results.table import results_document

    require_report_path(out)
    loaded = {name: Plan.load(name) for name in plans}
    listed = {name: list(plan.jobs(seeds)) for name, plan in loaded.items()}
    # All plans of a seed before the next: what is unfinished has every row of every table.
    every = sorted((job for some in listed.values() for job in some), key=lambda job: job.seed)
    run_jobs(every, runs, cache, jobs, Console(stderr=True))
    command = f"tessera results {' '.join(plans)} --seeds {seeds}"
    documents = [results_document(plan.title, listed[name], runs) for name, plan in loaded.items()]
    write_report(documents, command, out)
    print(out)
