"""`tessera bench train`: the baseline computes what ours computes, and the figures are of real steps."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from tessera.errors import TrainingError
from tests.training.small import QUIET, SEGMENTS, small_recipe
from tests.training.transcribed import draws, transcribed
from training.bench import command
from training.bench.jobs import Job
from training.bench.report import Report
from training.bench.train import started
from training.config import Recipe
from training.devices import open_fabric
from training.loop import Loop
from training.models.catalogue import build_model
from training.randomness import begin_step

BATCH = 6


def paper_recipe(method: str) -> Recipe:
    return small_recipe(
        f"{method}-paper",
        model={"dropout": 0.0},
        codebook={"reset_after": 300},
        training={"precision": "float64", "batch_size": BATCH, "learning_rate": 4e-4},
    )


def features(recipe: Recipe, clips: int) -> dict[str, torch.Tensor]:
    model = recipe.model
    return {
        "audio": torch.randn(clips, SEGMENTS, model.audio_dim, dtype=torch.float64),
        "video": torch.rand(clips, SEGMENTS, *2 * (model.video_grid,), model.video_dim, dtype=torch.float64),
        "text": torch.randn(clips, SEGMENTS, model.text_dim, dtype=torch.float64),
    }


# Ours leaves out the 1e-5 beside a sum of at least BATCH, in each of three pairs that weigh a half.
MATCHING_SLACK = 1e-5 / BATCH * 3 / 2


@pytest.mark.parametrize("method", ["dcid", "fcid"])
def test_the_transcription_has_the_losses_of_ours(method: str) -> None:
    recipe = paper_recipe(method)
    torch.manual_seed(0)
    ours = build_model(recipe).double().train()
    program = transcribed(ours).train()
    batch = features(recipe, BATCH)
    generator = begin_step(recipe.training.seed, 0)
    state, their_state = ours.encode(batch, generator), program.encode(batch)
    losses = {**ours.inner_losses(state), **ours.losses(state, generator)}
    theirs = {**program.likelihoods(their_state), **program.losses(their_state, draws(recipe, 0))}
    assert losses.keys() == theirs.keys()
    for name, loss in theirs.items():
        slack = MATCHING_SLACK if name == "cmcm" else 1e-10
        assert losses[name].item() == pytest.approx(loss.item(), rel=1e-9, abs=slack), name
    codebook, quantizer = ours.quantizers[0].codebook, program.encoder["quantizer"]
    torch.testing.assert_close(codebook.paper_table, quantizer.embedding, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(codebook.idle, quantizer.unused)


@pytest.mark.parametrize("method", ["dcid", "fcid"])
def test_the_transcription_trains_as_ours_does(method: str) -> None:
    recipe = paper_recipe(method)
    torch.manual_seed(0)
    ours = build_model(recipe)
    loop = Loop(ours, recipe, open_fabric(recipe.training, "cpu"), QUIET)
    program = transcribed(ours)
    for step in range(4):
        batch = features(recipe, BATCH)
        expected = program.step(batch, draws(recipe, step))
        figures = loop.step(step, batch, with_metrics=False)
        assert figures.keys() == expected.keys()
        for name, value in expected.items():
            # Adam carries along what the slack does to gradients.
            slack = 1e-6 * step + (MATCHING_SLACK if name in ("cmcm", "loss") else 0.0)
            assert figures[name] == pytest.approx(value, rel=1e-6, abs=1e-7 + slack), (step, name)


def test_every_side_takes_real_steps_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(Recipe, "load", small_recipe)
    app, out = Typer(), tmp_path / "results" / "train.json"
    app.command()(command.train)
    done = CliRunner().invoke(app, ["--method", "fcid", "--batch", "4", "--steps", "3", "--out", str(out)])
    assert done.exit_code == 0, done.output
    report = Report.model_validate_json(done.stdout)
    assert Report.model_validate_json(out.read_text()) == report
    assert (report.batch, report.measured_steps, report.warm_up_steps) == (4, 2, 1)
    assert report.machine.threads == 1
    (method,) = report.methods
    assert [(side.program, side.precision, side.video_branch) for side in method.sides] == [
        ("transcription", "float64", "convolutions"),
        ("tessera", "float32", "convolutions"),
        ("tessera", "bfloat16", "convolutions"),
        ("tessera", "float32", "mean"),
        ("tessera", "bfloat16", "mean"),
    ]
    baseline = method.sides[0]
    for side in method.sides:
        assert len(side.seconds) == 2
        assert side.speedup == pytest.approx(baseline.median_seconds / side.median_seconds, rel=0.05)
        assert side.memory_ratio == pytest.approx(side.peak_memory_bytes / baseline.peak_memory_bytes, 1e-3)
        assert 0 < side.last_loss < 100
        # An interpreter with torch, and less than a machine.
        assert 1e8 < side.peak_memory_bytes < 1e10
    assert report.table().row_count == 5


def test_a_side_that_is_killed_is_an_error() -> None:
    job = Job(program="transcription", recipe=small_recipe("fcid-paper"))
    with started(job) as worker:
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        with pytest.raises(TrainingError, match=r"transcription, float64, convolutions: .* status -9"):
            worker.step()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    job = Job(program="transcription", recipe=small_recipe("fcid-paper"), device="cuda")
    with pytest.raises(TrainingError, match="status 2"), started(job):
        pass
    assert capfd.readouterr().err == "tessera: 1 CUDA devices were asked for, this machine has 0\n"
