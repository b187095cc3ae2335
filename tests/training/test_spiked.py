"""Spiked events: what is said to be shared is shared, what is said to be known is in the features, seeds decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from tessera.errors import TrainingError
from tessera.windows import MODALITIES
from training.data.spiked import LATENT, WIDTHS, SpikedData, SpikedWorld


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_nuisances_have_the_strength_and_correlation_that_was_asked(
    correlation: float, strength: float
) -> None:
    world = SpikedWorld(nuisance_correlation=correlation, nuisance_strength=strength)
    nuisance = world.clips("train", 2_000).nuisance
    audio, video = (nuisance[m].reshape(-1, LATENT) for m in ("audio", "video"))
    assert audio.std(axis=0) == pytest.approx(np.full(LATENT, strength), rel=0.06)
    for place in range(LATENT):
        assert np.corrcoef(audio[:, place], video[:, place])[0, 1] == pytest.approx(correlation, abs=0.07)
    # Half of the variance is fixed for the clip.
    means = nuisance["audio"].mean(axis=1).var() / strength**2
    assert means == pytest.approx(0.5 + 0.5 / 10, rel=0.06)


def test_an_event_is_one_stretch_and_its_latent_is_zero_elsewhere() -> None:
    clips = SpikedWorld().clips("train", 500)
    assert (np.abs(np.diff(np.pad(clips.on, ((0, 0), (1, 1))).astype(int))).sum(axis=1) == 2).all()
    assert clips.on.sum(axis=1).min() == 4
    assert clips.on.sum(axis=1).max() == 10
    assert ((clips.latent != 0).all(axis=2) == clips.on).all()
    between = np.stack(
        [clips.latent[clips.labels == k][clips.on[clips.labels == k]].mean(0) for k in range(20)]
    )
    assert between.std() == pytest.approx(1, rel=0.25)


def test_features_hold_event_and_nuisance() -> None:
    clips = SpikedWorld().clips("train", 1_000)
    for modality in MODALITIES:
        features = clips.features[modality].reshape(-1, WIDTHS[modality])
        # An event that a modality missed cannot be told.
        latent = clips.latent.reshape(-1, LATENT)
        assert LinearRegression().fit(features, latent).score(features, latent) > 0.6
        nuisance = clips.nuisance[modality].reshape(-1, LATENT)
        assert LinearRegression().fit(features, nuisance).score(features, nuisance) > 0.8


@given(seed=st.integers(0, 2**31), split=st.sampled_from(["train", "validation", "test"]))
@settings(deadline=None, max_examples=10)
def test_equal_settings_give_equal_clips(seed: int, split: str) -> None:
    one, two = (SpikedWorld(seed=seed).clips(split, 5) for _ in range(2))  # type: ignore[arg-type]
    other = SpikedWorld(seed=seed + 1).clips(split, 5)  # type: ignore[arg-type]
    for modality in MODALITIES:
        assert np.array_equal(one.features[modality], two.features[modality])
        assert not np.array_equal(one.features[modality], other.features[modality])


def test_splits_share_prototypes_and_mixers_and_no_clip() -> None:
    world = SpikedWorld(nuisance_strength=0.0)
    train, test = world.clips("train", 2_000), world.clips("test", 2_000)

    def mean(clips: object, label: int) -> np.ndarray:
        assert isinstance(clips, type(train))
        return clips.features["audio"][clips.labels == label].mean(axis=(0, 1))

    assert not np.array_equal(train.labels, test.labels)
    for label in range(20):
        assert np.linalg.norm(mean(train, label) - mean(test, label)) < 0.5


def test_a_feature_set_has_a_word_a_second_and_pictures_of_one_cell() -> None:
    data = SpikedData.of({"spiked": {"seconds": 6}, "clips": {"train": 4, "validation": 3, "test": 2}})
    batch = data.features("validation").batch(torch.arange(3))
    assert batch["audio"].shape == (3, 6, 64)
    assert batch["video"].shape == (3, 6, 1, 1, 128)
    assert batch["text"].shape == (3, 6, 48)
    assert batch["text_mask"].all()
    assert data.of_split("test").latent.shape == (2, 6, LATENT)
    assert data.of_split("train").nuisance["text"].shape == (4, 6, LATENT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spiked": {}}, "clips: Field required"),
        ({"spiked": {"strength": 2}, "clips": {"train": 4}}, "spiked.strength: Unexpected keyword argument"),
        ({"spiked": {"nuisance_correlation": 2}, "clips": {"train": 4}}, "less than or equal to 1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        SpikedData.of(settings)
