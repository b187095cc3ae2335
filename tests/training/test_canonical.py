"""Canonical codes: where their encoders start, and that their training gains on the linear control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.small import QUIET, RandomClips, small_recipe
from training.checkpoint import load_model
from training.config import Recipe
from training.correlation import Moments, aligned_features
from training.data.selection import Selection
from training.data.spiked import SpikedData
from training.evaluation.coder import ModelCoder
from training.evaluation.controls import correlated_kmeans
from training.evaluation.tasks.spiked import spiked_task
from training.evaluation.tasks.task import Settings
from training.models.canonical import Canonical
from training.models.catalogue import build_model
from training.trainer import train


@pytest.mark.parametrize("method", ["canonical", "dcid-canonical"])
def test_encoders_start_as_the_projections_weighted_by_signal_to_noise(method: str) -> None:
    torch.manual_seed(0)
    recipe = small_recipe(method)
    model, clips = build_model(recipe), RandomClips(recipe)
    batch = clips.batch(torch.arange(40))
    model.start([clips.batch(rows) for rows in torch.arange(40).chunk(3)])
    model.eval()
    moments, modalities = Moments(), ("audio", "video", "text")
    moments.add(aligned_features(batch, modalities))
    found = moments.correlated(recipe.model.dim)
    shared = found.correlations.clip(0, 0.99)
    for modality, view in found.views.items():
        features = batch[modality]
        mask = batch["text_mask"] if modality == "text" else None
        (latents,) = model.segment_latents(modality, features, mask)
        vectors = features.mean(dim=(2, 3)) if modality == "video" else features
        expected = view(vectors.double().numpy()) * np.sqrt(shared / (1 - shared))
        np.testing.assert_allclose(latents.detach().numpy(), expected, atol=2e-5)


def test_a_random_start_stays_what_it_was() -> None:
    recipe = small_recipe("canonical", model={"encoder": "canonical", "width": 12, "start": "random"})
    model, clips = build_model(recipe), RandomClips(recipe)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.start([clips.batch(torch.arange(8))])
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_model_wider_than_its_features_starts_its_other_channels_at_zero() -> None:
    torch.manual_seed(0)
    recipe = small_recipe("canonical", model={"encoder": "canonical", "width": 12, "dim": 40})
    model, clips = build_model(recipe), RandomClips(recipe)
    model.start([clips.batch(torch.arange(40))])
    (latents,) = model.eval().segment_latents("audio", clips.tensors["audio"])
    assert latents.shape[-1] == 40
    assert latents[..., :5].abs().amin() > 0
    assert not latents[..., 19:].any()


def test_training_gains_on_the_linear_control_where_the_nuisance_is_strong(tmp_path: Path) -> None:
    settings = {"nuisance_strength": 3.0, "nuisance_correlation": 0.5, "events": 5}
    clips = {"train": 600, "validation": 400, "test": 400}
    recipe = Recipe.load("spiked/canonical").with_data({"spiked": settings, "clips": clips})
    recipe = recipe.with_training(steps=150, batch_size=40)
    recipe = Recipe.parse({**recipe.model_dump(), "codebook": {"partners": "none", "size": 100}})
    data = SpikedData.of(recipe.data)
    torch.manual_seed(0)
    model = build_model(recipe)
    assert isinstance(model, Canonical)
    train(model, Selection.whole(data.features("train")), recipe, tmp_path, console=QUIET)
    model = load_model(tmp_path / "step-000150")[0]
    task = spiked_task(data, Settings())
    ours, linear = (
        np.mean(
            [figures["accuracy"] for (a, b), figures in task.score(coder, 1).outcomes[0].items() if a != b]
        )
        for coder in (ModelCoder(model), correlated_kmeans(data.features("train"), 100, 8, 0))
    )
    print(ours, linear)
    assert ours > linear
