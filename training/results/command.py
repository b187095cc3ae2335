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
        Path, typer.Option("--out", "-o", help="Markdown file to write; .jsonl, .json and .png go beside it.")
    ] = Path("docs/results.md"),
    seeds: Annotated[int, typer.Option(help="Seeds of every row.", min=1)] = 5,
    jobs: Annotated[int, typer.Option(help="How many trainings at a time, a thread each.", min=1)] = 2,
    runs: Annotated[Path, typer.Option(help="Folder of the trainings that are not finished.")] = Path(
        "runs/results"
    ),
    cache: Annotated[
        Path, typer.Option("--cache", help="Folder where features are kept between runs.")
    ] = Path("runs/cache"),
) -> None:
    """Train and score every recipe of some plans, and write their tables.

    What each came to is kept as a line of the .jsonl file, and is not computed again. Stop it at any time: the tables
    are written of what is done. The same command goes on, and more seeds add to those that are there.
    """
    from rich.console import Console

    from training.data.working_folder import locked
    from training.results.ledger import Ledger
    from training.results.plan import Plan
    from training.results.report import require_report_path, write_report
    from training.results.runner import run_jobs
    from training.results.table import results_document

    require_report_path(out)
    loaded = {name: Plan.load(name) for name in plans}
    listed = {name: list(plan.jobs(seeds)) for name, plan in loaded.items()}
    # All plans of a seed before the next: what is unfinished has every row of every table.
    every = sorted((job for some in listed.values() for job in some), key=lambda job: job.seed)
    command = f"tessera results {' '.join(plans)} --seeds {seeds}"
    console = Console(stderr=True)
    # Two that train the same jobs in the same folders would spoil them for each other.
    with locked(runs):
        ledger = Ledger(out.with_suffix(".jsonl"), console)
        try:
            run_jobs(every, ledger, runs, cache, jobs, console)
        finally:
            # Whoever stops it, or is stopped by a job that fails, wants to see what is done.
            documents = [results_document(plan.title, listed[name], ledger) for name, plan in loaded.items()]
            if begun := [document for document in documents if document["settings"]]:
                write_report(begun, command, out)
                print(out)
