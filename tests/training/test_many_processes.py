"""Training in two real processes ends with the model, the codebook and the losses of training in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.many_processes import train_exactly
from tests.training.small import METHODS


def scalars(run: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(run / "logs"))
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    return subprocess.run(
        [*launcher, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    done = torchrun("-m", "tests.training.many_processes", str(folder), *METHODS)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_on_halves_end_as_one_on_the_whole(method: str, two: Path, tmp_path: Path) -> None:
    alone = train_exactly(method, tmp_path)
    together = two / method / alone.name
    for file in ("model.safetensors", "optimizer.safetensors"):
        expected, found = load_file(alone / file), load_file(together / file)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-9, msg=f"{file}: {name}")
    expected_figures, figures = scalars(tmp_path / method), scalars(two / method)
    assert expected_figures.keys() == figures.keys()
    for name, values in expected_figures.items():
        assert figures[name] == pytest.approx(values, rel=1e-5, abs=1e-6), name
