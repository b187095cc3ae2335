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

from tests.tiny import RECIPE
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
        [*launcher, *arguments], env=environment, capture_output=True, text=True, timeout=900, check=False
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


def train_command(recipe: Path, cache: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "tessera"), "train", str(recipe), "--device", "cpu"]
    return subprocess.run(
        [*command, "--steps", "3", "--cache", str(cache), "--out", str(out), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_the_command_starts_its_processes_and_speaks_with_one_voice(tiny_run: Path, tmp_path: Path) -> None:
    recipe, cache, out = tmp_path / "tiny.yaml", tiny_run.parent.parent / "cache", tmp_path / "run"
    recipe.write_text(RECIPE.model_dump_json())
    done = train_command(recipe, cache, out, "--devices", "2")
    assert done.returncode == 0, done.stderr
    assert "MEMBER: 2/2" in done.stderr
    assert done.stdout == f"{out / 'step-000003'}\n"
    assert {entry.name for entry in out.iterdir()} == {"logs", "metrics.jsonl", "report.html", "step-000003"}
    again = train_command(recipe, cache, out, "--devices", "2")
    assert again.returncode != 0
    assert again.stderr.count("holds a run already") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--devices", "3"), "a batch of 8 clips cannot be shared by 3 processes"),
        (("--device", "cuda", "--devices", "99"), "99 CUDA devices were asked for, this machine has"),
    ],
)
def test_devices_that_cannot_be_had_are_told_of(
    options: tuple[str, ...], message: str, tiny_run: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.model_dump_json())
    done = train_command(recipe, tmp_path, tmp_path / "run", *options)
    assert done.returncode != 0
    assert done.stderr.count(message) == 1
    assert "Traceback" not in done.stderr
