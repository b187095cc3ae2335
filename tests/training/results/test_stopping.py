"""`tessera results`, stopped: trainings save their step, nothing more is begun, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from threadpoolctl import threadpool_info

from tests.training.results.test_results import RECIPE
from training.config import Recipe
from training.results.job import Document, Job, TrainingJob
from training.results.runner import run_jobs

_CHILD = """
import signal
import sys
from pathlib import Path
from rich.console import Console
from tests.training.results.test_stopping import jobs
from training.results.runner import run_jobs
if __name__ == "__main__":
    # A background job of a shell is started deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs = Path(sys.argv[1])
    run_jobs(jobs(), runs, runs, 1, Console(quiet=True))
"""


def jobs() -> list[TrainingJob]:
    """Two trainings that take longer than anyone waits."""
    recipe = Recipe.parse({"name": "long", **RECIPE}).with_training(steps=100_000, save_every=20)
    return [TrainingJob("even", f"row {i}", recipe.with_training(seed=i), 4) for i in range(2)]


def until(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def descendants(process: int) -> list[int]:
    """Children of a process, and theirs."""
    path = Path(f"/proc/{process}/task/{process}/children")
    children = [int(word) for word in path.read_text().split()] if path.exists() else []
    return [*children, *(below for child in children for below in descendants(child))]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopping_leaves_no_process_and_begins_no_other_job(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(_CHILD)
    runs = tmp_path / "runs"
    first, second = (job.folder(runs) for job in jobs())
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        [sys.executable, str(script), str(runs)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: process.poll() is not None or list(first.glob("step-*")))
    assert process.poll() is None
    below = descendants(process.pid)
    assert below
    if number == signal.SIGINT:
        # As a terminal does: every process of the group hears it.
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, told = process.communicate(timeout=300)
    until(lambda: not any(Path(f"/proc/{one}/cwd").exists() for one in below))
    assert not second.exists()
    assert "SpawnProcess" not in told
    assert ("KeyboardInterrupt" in told) is (number == signal.SIGINT)


class Threads(TrainingJob):
    """Says how many threads the libraries of a worker compute with."""

    def make(self, folder: Path, cache: Path) -> Document:
        return {
            "torch": torch.get_num_threads(),
            **{p["filepath"]: p["num_threads"] for p in threadpool_info()},
        }


def test_workers_compute_with_one_thread_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "2")
    job: Job = Threads("even", "row", jobs()[0].recipe, 4)
    run_jobs([job], tmp_path, tmp_path, 1, Console(quiet=True))
    threads = job.scores(tmp_path)
    assert threads
    assert len(threads) > 2
    assert set(threads.values()) == {1}
