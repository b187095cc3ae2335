"""Controls: what linear algebra and k-means reach on the same features, in the place of a trained model.

They are fitted on the clips that models are trained on, without labels, and scored by the same tasks. P positions
(segments of all clips), C channels of a feature, D dimensions of a projection, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

from tessera.errors import TrainingError
from tessera.windows import MODALITIES, Modality
from training.correlation import Moments, View, aligned_features, whitening_matrix
from training.data.features import FeatureSet
from training.data.selection import Selection
from training.evaluation.coder import Coded, Coder
from training.evaluation.probe import cross_modal_accuracy
from training.quantizers.statistics import squared_distances

Floats = NDArray[np.float64]

_BATCH = 100


class TableCoder(Coder):
    """A view and a table of codes [K, D] for each modality; the tables may be one and the same."""

    def __init__(self, views: Mapping[Modality, View], tables: Mapping[Modality, Floats]) -> None:
        self.modalities = tuple(m for m in MODALITIES if m in views)
        self.views, self.tables = views, tables
        self.sizes = (len(next(iter(tables.values()))),)

    def encode(self, part: Selection, modality: Modality, dropout_seed: int | None = None) -> Coded:
        """As `Coder` says; nothing drops out."""
        features, real = segment_features(part, modality)
        table = torch.from_numpy(self.tables[modality])
        projected = torch.from_numpy(self.views[modality](features.double().numpy()))
        codes = squared_distances(projected, table).argmin(dim=-1)
        return Coded(codes.unsqueeze(-1), real, table[codes])


def unaligned_kmeans(train: FeatureSet, size: int, dims: int, seed: int) -> TableCoder:
    """k-means of each modality by itself, on its `dims` principal components: nothing is shared, so transfer is chance.

    The negative control: whatever it scores above chance over several seeds, the task gives away. One seed scatters
    by some points around chance: a class whose codes are matched by luck is matched in all of its clips.

    Raises:
        TrainingError: there are fewer segments than codes.
    """
    part = Selection.whole(train)
    views, tables = {}, {}
    for modality in train.modalities:
        features = _rows(*segment_features(part, modality))
        views[modality] = _whitening(features, dims)
        tables[modality] = _centres(views[modality](features), size, seed)
    return TableCoder(views, tables)


def correlated_kmeans(train: FeatureSet, size: int, dims: int, seed: int) -> TableCoder:
    """Canonical correlation analysis of the modalities and one k-means on all their projections.

    The strong control. Segments at the same time are pairs, words lasting as long as their clip.

    Raises:
        TrainingError: there are fewer segments than codes.
    """
    part, moments = Selection.whole(train), Moments()
    for indices in torch.split(torch.arange(len(part)), _BATCH):
        moments.add(aligned_features(part.batch(indices), train.modalities))
    views = moments.correlated(dims).views
    rows = np.concatenate([view(_rows(*segment_features(part, m))) for m, view in views.items()])
    table = _centres(rows, size, seed)
    return TableCoder(views, dict.fromkeys(views, table))


def oracle_accuracy(
    fit_latent: Floats, fit_labels: NDArray[np.int64], test_latent: Floats, test_labels: NDArray[np.int64]
) -> float:
    """The same probe on the mean of the true latents [N, T, E]: what a code without loss would score."""
    fit, test = (latent.mean(axis=1).astype(np.float32) for latent in (fit_latent, test_latent))
    return cross_modal_accuracy({"audio": fit}, fit_labels, {"audio": test}, test_labels)["audio", "audio"]


def segment_features(part: Selection, modality: Modality) -> tuple[Tensor, Tensor]:
    """Features [N, T, C] of every segment, pictures by their spatial mean, and which are real, bool [N, T]."""
    features, real = [], []
    for batch, mask in part.batches(modality):
        vectors = batch.mean(dim=(2, 3)) if modality == "video" else batch
        features.append(vectors)
        real.append(torch.ones(vectors.shape[:2], dtype=torch.bool) if mask is None else mask)
    return torch.cat(features), torch.cat(real)


def _rows(features: Tensor, real: Tensor) -> Floats:
    rows: Floats = features[real].double().numpy()
    return rows


def _whitening(features: Floats, dims: int) -> View:
    """The `dims` principal components of [P, C], or as many as there are, each of unit variance."""
    return View(features.mean(axis=0), whitening_matrix(np.cov(features, rowvar=False), dims))


def _centres(rows: Floats, size: int, seed: int) -> Floats:
    if len(rows) < size:
        raise TrainingError(f"{len(rows)} segments to learn from are too few for {size} codes")
    centres: Floats = KMeans(size, n_init=1, random_state=seed).fit(rows).cluster_centers_
    return centres.astype(np.float64)
