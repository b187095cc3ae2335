"""Controls: what linear algebra and k-means reach on the same features, in the place of a trained model.

They are fitted on the clips that models are trained on, without labels, and scored by the same tasks. P positions
(segments of all clips), C channels of a feature, D dimensions of a projection, K codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

from tessera.errors import TrainingError
from tessera.windows import MODALITIES, Modality
from training.data.features import FeatureSet
from training.data.selection import Selection
from training.evaluation.coder import Coded, Coder
from training.evaluation.probe import cross_modal_accuracy
from training.models.encoders import spread_over_time
from training.quantizers.statistics import squared_distances

Floats = NDArray[np.float64]

# Of the largest variance: directions below it are noise of rounding, which whitening would blow up.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class View:
    """A linear projection of the features of one modality."""

    mean: Floats  # [C]
    matrix: Floats  # [C, D]

    def __call__(self, features: Floats) -> Floats:
        """[..., C] -> [..., D]."""
        projected: Floats = (features - self.mean) @ self.matrix
        return projected


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

    The strong control. Segments at the same time are pairs, words lasting as long as their clip. With more than two
    modalities it is the generalised analysis MAXVAR (J. R. Kettenring, 1971): the directions in which the sum of
    the whitened projections varies most.

    Raises:
        TrainingError: there are fewer segments than codes.
    """
    views = correlated_views(aligned_features(Selection.whole(train)), dims)
    part = Selection.whole(train)
    rows = np.concatenate([view(_rows(*segment_features(part, m))) for m, view in views.items()])
    table = _centres(rows, size, seed)
    return TableCoder(views, dict.fromkeys(views, table))


def correlated_views(aligned: Mapping[Modality, Floats], dims: int) -> dict[Modality, View]:
    """The `dims` projections of each modality [P, C] that correlate most with those of the others, of unit variance."""
    whitenings = {m: _whitening(features, features.shape[1]) for m, features in aligned.items()}
    white = np.concatenate([whitenings[m](features) for m, features in aligned.items()], axis=1)
    _, directions = np.linalg.eigh(white.T @ white / len(white))
    strongest = directions[:, ::-1][:, :dims]
    starts = np.cumsum([whitening.matrix.shape[1] for whitening in whitenings.values()])[:-1]
    blocks = np.split(strongest, starts)
    return {
        m: View(whitening.mean, whitening.matrix @ (block / np.linalg.norm(block, axis=0)))
        for (m, whitening), block in zip(whitenings.items(), blocks, strict=True)
    }


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


def aligned_features(part: Selection) -> dict[Modality, Floats]:
    """Features [P, C] of each modality, row for row at the same time; words last as long as their clip."""
    every = {m: segment_features(part, m) for m in part.features.modalities}
    time = next(
        (z.shape[1] for m, (z, _) in every.items() if m != "text"), every[next(iter(every))][0].shape[1]
    )
    spread = {m: spread_over_time(z, real, time) if m == "text" else z for m, (z, real) in every.items()}
    return {m: z.flatten(0, 1).double().numpy() for m, z in spread.items()}


def _rows(features: Tensor, real: Tensor) -> Floats:
    rows: Floats = features[real].double().numpy()
    return rows


def _whitening(features: Floats, dims: int) -> View:
    """The `dims` principal components of [P, C], or as many as there are, each of unit variance."""
    mean = features.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(features - mean, rowvar=False))
    kept = [i for i in range(len(variances) - 1, -1, -1) if variances[i] > _NEGLIGIBLE * variances[-1]][:dims]
    return View(mean, directions[:, kept] / np.sqrt(variances[kept]))


def _centres(rows: Floats, size: int, seed: int) -> Floats:
    if len(rows) < size:
        raise TrainingError(f"{len(rows)} segments to learn from are too few for {size} codes")
    centres: Floats = KMeans(size, n_init=1, random_state=seed).fit(rows).cluster_centers_
    return centres.astype(np.float64)
