"""`tessera results`, stopped: trainings save their step, nothing more is begun, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from rich.console import Console
from threadpoolctl import threadpool_info

from tests.training.results.test_results import RECIPE
from training.config import Recipe
from training.results.job import Document, Job, TrainingJob
from training.results.ledger import Ledger
from training.results.runner import run_jobs

QUIET = Console(quiet=True)
_CHILD = """
import signal
import sys
from pathlib import Path
from rich.console import Console
from tests.training.results.test_stopping import jobs
from training.results.ledger import Ledger
from training.results.runner import run_jobs
if __name__ == "__main__":
    # A background job of a shell is started deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs = Path(sys.argv[1])
    ledger = Ledger(runs / "x.jsonl", Console(quiet=True))
    run_jobs(jobs(), ledger, runs, runs, 1, Console(quiet=True))
"""


_COMMAND = """
import signal
import sys
from tessera.cli import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
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
    ledger = Ledger(tmp_path / "x.jsonl", QUIET)
    run_jobs([job], ledger, tmp_path, tmp_path, 1, QUIET)
    threads = ledger.scores(job)
    assert threads
    assert len(threads) > 2
    assert set(threads.values()) == {1}


class Once(TrainingJob):
    """Says which process it ran in; the first time that one is made in a folder, it interrupts who waits for it."""

    def make(self, folder: Path, cache: Path) -> Document:
        marker = cache / "interrupted"
        if self.seed == 1 and not marker.exists():
            marker.touch()
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(300)
        (cache / self.row).write_text(str(os.getpid()))
        return {"process": os.getpid()}


class Watched(Ledger):
    """Knows which processes wrote it."""

    writers: ClassVar[list[int]] = []

    def add(self, job: Job, scores: Document) -> None:
        super().add(job, scores)
        self.writers.append(os.getpid())


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """Also where the tests are a background job of a shell, which is started deaf to them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_after_an_interrupt_what_is_done_is_kept_and_only_the_parent_has_written_it(
    tmp_path: Path, hears_interrupts: None
) -> None:
    recipe, path = jobs()[0].recipe, tmp_path / "x.jsonl"
    some = [Once("even", f"row {i}", recipe.with_training(seed=i), 4) for i in range(3)]
    ledger = Watched(path, QUIET)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(some, ledger, tmp_path, tmp_path, 1, QUIET)
    kept = path.read_bytes()
    assert [ledger.scores(job) is not None for job in some] == [True, False, False]
    first = (tmp_path / "row 0").read_text()
    ledger = Watched(path, QUIET)
    run_jobs([*some, some[2]], ledger, tmp_path, tmp_path, 2, QUIET)
    assert path.read_bytes().startswith(kept)
    assert path.read_bytes().count(b"\n") == 3
    assert (tmp_path / "row 0").read_text() == first
    assert ledger.writers == [os.getpid()] * 3
    assert all((ledger.scores(job) or {})["process"] != os.getpid() for job in some)


def test_an_interrupted_command_writes_the_tables_of_what_is_done(tmp_path: Path) -> None:
    recipe = tmp_path / "long.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {"name": "long", **RECIPE, "training": {"steps": 100_000, "batch_size": 8, "save_every": 20}}
        )
    )
    plan, out, runs = tmp_path / "plan.yaml", tmp_path / "tables.md", tmp_path / "runs"
    document = {"title": "One", "keep": 0.5, "codes": 8, "dims": [2], "settings": {"even": {}, "odd": {}}}
    plan.write_text(yaml.safe_dump({**document, "rows": {"long": str(recipe)}}))
    other = tmp_path / "other.yaml"
    other.write_text(
        yaml.safe_dump(
            {**document, "title": "Other", "codes": 4, "settings": {"far": {}}, "rows": {"long": str(recipe)}}
        )
    )
    command = ["results", str(plan), str(other), "--out", str(out), "--runs", str(runs), "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: process.poll() is not None or list(runs.glob("even-long-*/step-*")))
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    shown, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    assert shown == f"{out}\n"
    assert "Traceback" not in told
    text = out.read_text()
    assert text.count("| unaligned k-means | all |") == 1
    assert "| linear CCA, 2 dimensions + k-means | all |" in text
    assert "long" not in text.split("| | channels", 1)[-1]
    assert "Other" not in text
    assert out.with_suffix(".jsonl").read_text().count("\n") == 2
    assert [path.name.rsplit("-", 1)[0] for path in runs.iterdir()] == ["even-long-0"]
