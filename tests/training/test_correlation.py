"""Canonical correlation analysis: against its formula for two modalities, and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cross_decomposition import CCA

from tessera.windows import Modality
from training.correlation import Moments, aligned_features
from training.data.spiked import SpikedData

Features = dict[Modality, NDArray[np.float64]]


def correlated(seed: int = 0, positions: int = 2_000) -> Features:
    """Three dimensions that both modalities show, in noise of their own."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(positions, 3))
    return {
        "audio": np.concatenate([shared, rng.normal(size=(positions, 4))], axis=1) @ rng.normal(size=(7, 7)),
        "text": np.concatenate([shared, 0.5 * shared[:, :1] + rng.normal(size=(positions, 2))], axis=1)
        @ rng.normal(size=(5, 5)),
    }


def moments_of(features: Features, parts: int = 1) -> Moments:
    moments = Moments()
    for rows in np.array_split(np.arange(len(features["audio"])), parts):
        moments.add({m: x[rows] for m, x in features.items()})
    return moments


def test_of_two_modalities_it_is_canonical_correlation_analysis() -> None:
    features = correlated()
    found = moments_of(features).correlated(5)
    projected = {m: view(features[m]) for m, view in found.views.items()}
    for values in projected.values():
        np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-6)
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-9)
    measured = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(projected["audio"].T, projected["text"].T, strict=True)
    ]
    np.testing.assert_allclose(found.correlations, measured, atol=1e-9)
    reference = CCA(5, scale=False, max_iter=5_000).fit(features["audio"], features["text"])
    x, y = reference.transform(features["audio"], features["text"])
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(measured, expected, atol=1e-3)
    assert measured[2] > 0.99
    assert measured[3] < 0.2


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.integers(1, 50), st.floats(-100, 100))
def test_neither_the_parts_nor_an_affine_map_of_the_features_matter(
    seed: int, parts: int, offset: float
) -> None:
    features = correlated(seed, 500)
    mixer = np.random.default_rng(seed).normal(size=(7, 7)) + 3 * np.eye(7)
    mapped: Features = {**features, "audio": features["audio"] @ mixer + offset}
    whole, other = moments_of(features).correlated(4), moments_of(mapped, parts).correlated(4)
    np.testing.assert_allclose(whole.correlations, other.correlations, atol=1e-6)
    for modality, view in whole.views.items():
        # Three directions correlate entirely: they are found as a subspace, in no order.
        x, y = view(features[modality])[:50, :3], other.views[modality](mapped[modality])[:50, :3]
        np.testing.assert_allclose(x @ x.T, y @ y.T, atol=1e-5)


def test_the_mean_correlation_of_every_pair_is_that_of_a_direction() -> None:
    features = SpikedData.of({"spiked": {}, "clips": {"train": 400}}).features("train")
    aligned = aligned_features(features.batch(torch.arange(400)), features.modalities)
    found = moments_of(aligned, 3).correlated(16)
    projected = [found.views[m](x) for m, x in aligned.items()]
    pairs = [(a, b) for i, a in enumerate(projected) for b in projected[:i]]
    measured = [np.mean([np.corrcoef(a[:, d], b[:, d])[0, 1] for a, b in pairs]) for d in range(16)]
    # The scale of a direction is that of each modality, its correlation that of their sum: near, not the same.
    np.testing.assert_allclose(found.correlations, measured, atol=0.03)
    assert (np.diff(found.correlations) <= 0).all()
    assert min(measured[:8]) > 0.7 > 0.4 > max(measured[8:])


@pytest.mark.parametrize("dims", [1, 5, 9])
def test_there_are_no_more_directions_than_the_narrowest_allows_and_constants_have_none(dims: int) -> None:
    features = correlated()
    features["text"] = np.concatenate([features["text"], np.ones((2_000, 2))], axis=1)
    found = moments_of(features).correlated(dims)
    assert len(found.correlations) == dims
    assert np.isfinite(found.views["text"].matrix).all()
    assert found.views["text"].matrix.shape == (7, dims)


def test_a_modality_has_no_part_in_directions_that_only_another_has() -> None:
    rng = np.random.default_rng(0)
    axes = np.tile(np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]), (5, 1))
    found = moments_of({"audio": axes @ rng.normal(size=(2, 2)), "text": 3 * axes[:, :1]}).correlated(3)
    np.testing.assert_allclose(found.correlations, [1, 0, -1], atol=1e-9)
    np.testing.assert_allclose(found.views["text"](3 * axes[:, :1])[:, 1], 0, atol=1e-6)


def test_words_last_as_long_as_their_clip_and_pictures_are_their_mean() -> None:
    batch = {
        "audio": torch.zeros(1, 4, 1),
        "video": torch.arange(16.0).reshape(1, 4, 2, 2, 1),
        "text": torch.tensor([[[1.0], [2.0], [9.0]]]),
        "text_mask": torch.tensor([[True, True, False]]),
    }
    aligned = aligned_features(batch, ["video", "text"])
    assert aligned["text"].ravel().tolist() == [1, 1, 2, 2]
    assert aligned["video"].ravel().tolist() == [1.5, 5.5, 9.5, 13.5]
