"""Canonical codes: where their encoders start, and that their training gains on the linear control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.errors import TrainingError
from tests.training.small import QUIET, RandomClips, small_recipe
from training import trainer
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
from training.models.canonical_encoder import CanonicalEncoder
from training.models.catalogue import build_model
from training.trainer import train


@pytest.mark.parametrize("method", ["canonical", "dcid-canonical"])
def test_encoders_start_as_the_projections_weighted_by_what_is_shared(method: str) -> None:
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
        expected = view(vectors.double().numpy()) * np.sqrt(shared / (1 - shared**2))
        directions = shared > 0
        assert directions.sum() > 4
        np.testing.assert_allclose(
            latents.detach().numpy()[..., directions], expected[..., directions], atol=2e-5
        )


def test_a_random_start_stays_what_it_was() -> None:
    recipe = small_recipe("canonical", model={"encoder": "canonical", "width": 12, "start": "random"})
    model, clips = build_model(recipe), RandomClips(recipe)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.start([clips.batch(torch.arange(8))])
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_channels_without_a_direction_of_their_own_start_faint_and_learn() -> None:
    torch.manual_seed(0)
    model_config = {"encoder": "canonical", "width": 12, "dim": 40}
    recipe = small_recipe("canonical", model=model_config, training={"steps": 20, "learning_rate": 1e-2})
    model, clips = build_model(recipe), RandomClips(recipe)
    model.start([clips.batch(torch.arange(40))])
    model.eval()
    (latents,) = model.segment_latents("audio", clips.tensors["audio"])
    spread = latents.std(dim=(0, 1))
    assert spread[19:].min() > 0
    assert spread[19:].max() < 0.3


def test_the_transformer_sees_standardised_features_and_no_constant_ones() -> None:
    torch.manual_seed(0)
    encoder = CanonicalEncoder(3, small_recipe("canonical").model)
    features = torch.randn(4_000, 1, 3) * torch.tensor([50.0, 0.1, 0.0]) + torch.tensor([9.0, -3.0, 7.7917])
    moments = Moments()
    moments.add(
        {
            "audio": features.flatten(0, 1).double().numpy(),
            "text": np.random.default_rng(0).normal(size=(4_000, 2)),
        }
    )
    assert moments.deviations["audio"].tolist() == pytest.approx([50, 0.1, 0], rel=0.05)
    before = encoder.entry.weight.detach().clone()
    found = moments.correlated(2)
    encoder.start(moments.means["audio"], moments.deviations["audio"], found.views["audio"].matrix)
    seen = encoder.entry(features)
    scale = torch.tensor([50.0, 0.1])
    expected = ((features - features.mean(dim=0))[..., :2] / scale) @ before[:, :2].T
    torch.testing.assert_close(seen, expected, rtol=0.1, atol=0.1)
    torch.testing.assert_close(encoder.entry.weight[:, 2], before[:, 2])


def test_features_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    recipe = small_recipe("canonical")
    clips = RandomClips(recipe)
    clips.tensors["video"][7, 3, 0, 0, 2] = torch.nan
    with pytest.raises(TrainingError, match="the video features hold a number that is not finite"):
        train(build_model(recipe), clips, recipe, tmp_path, console=QUIET)


class Recording(RandomClips):
    """Clips that remember which of them were asked for."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.asked: list[list[int]] = []

    def batch(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
        """As any clips."""
        self.asked.append(indices.tolist())
        return super().batch(indices)


def test_the_start_looks_at_clips_from_end_to_end_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "_STARTING_CLIPS", 10)
    monkeypatch.setattr(trainer, "_STARTING_BATCH", 4)
    recipe = small_recipe("canonical")
    clips = Recording(recipe)
    train(build_model(recipe), clips, recipe.with_training(steps=3), tmp_path, console=QUIET)
    assert [len(asked) for asked in clips.asked] == [4, 4, 2, 8, 8, 8]
    assert [row for asked in clips.asked[:3] for row in asked] == list(range(0, 40, 4))
    again = Recording(recipe)
    train(build_model(recipe), again, recipe, tmp_path, console=QUIET, resume=True)
    assert [len(asked) for asked in again.asked] == [8, 8, 8]


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
    assert ours > linear
