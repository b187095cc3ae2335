"""A run that is killed in the midst of its work goes on to the end it would have had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.small import QUIET, RandomClips, small_recipe
from training.checkpoint import latest_checkpoint
from training.config import Recipe
from training.models.catalogue import build_model
from training.randomness import seed_everything
from training.trainer import train

STEPS = 20
_CHILD = """
import sys
from pathlib import Path
from tests.training.test_killed import Stuck, run
run(Path(sys.argv[1]), Stuck)
"""


class Stuck(RandomClips):
    """Clips of which the tenth batch never comes: the run waits there, if nobody killed it before."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.asked = 0

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        self.asked += 1
        if self.asked == STEPS // 2:
            signal.pause()
        return super().batch(indices)


def run(folder: Path, kind: type[RandomClips] = RandomClips, resume: bool = False) -> Path:
    """The whole run in `folder`."""
    torch.set_num_threads(1)
    recipe = small_recipe("srcid", training={"steps": STEPS, "save_every": 2})
    seed_everything(0)
    model, clips = build_model(recipe), kind(recipe)
    return train(model, clips, recipe, folder, resume=resume, console=QUIET)


def test_a_killed_run_goes_on_exactly(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": "."}
    process = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path / "killed")], env=environment)
    deadline = time.monotonic() + 900
    while not list((tmp_path / "killed").glob("step-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = latest_checkpoint(tmp_path / "killed")
    assert left.name < f"step-{STEPS:06d}"
    resumed, whole = run(tmp_path / "killed", resume=True), run(tmp_path / "whole")
    assert resumed.name == whole.name == f"step-{STEPS:06d}"
    for file in ("model.safetensors", "optimizer.safetensors"):
        expected, found = load_file(whole / file), load_file(resumed / file)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
