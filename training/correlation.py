"""Canonical correlation analysis of any number of modalities, from moments that are added up batch by batch.

With two modalities it is Hotelling's; with more, MAXVAR (J. R. Kettenring, 1971): the directions in which the sum of
the whitened projections varies most.

P positions (segments of all clips), C channels of a modality, D dimensions of a projection.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from torch import Tensor

from tessera.errors import TrainingError
from tessera.windows import MODALITIES, Modality
from training.models.encoders import spatial_mean, spread_over_time

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


@dataclass(frozen=True)
class Correlated:
    """Projections of unit variance, the most correlated direction first.

    In a direction that a modality has no part in, its projection is zero.
    """

    views: dict[Modality, View]
    correlations: Floats  # [D]: mean correlation of two modalities in each direction


class Moments:
    """Mean and covariance of the channels of all modalities together."""

    def __init__(self) -> None:
        self._count = 0
        self._widths: dict[Modality, int] = {}
        self._sum: Floats = np.zeros(0)
        self._products: Floats = np.zeros((0, 0))

    def add(self, aligned: Mapping[Modality, Floats]) -> None:
        """Take in features [P, C] of each modality, row for row at the same time.

        Raises:
            TrainingError: one is no finite number.
        """
        for modality, features in aligned.items():
            if not np.isfinite(features).all():
                raise TrainingError(f"the {modality} features hold a number that is not finite")
        rows = np.concatenate([*aligned.values()], axis=1)
        if not self._count:
            self._widths = {m: features.shape[1] for m, features in aligned.items()}
            self._sum, self._products = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
        self._count += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows

    @property
    def means(self) -> dict[Modality, Floats]:
        """[C] of each modality."""
        return self._split(self._sum / self._count)

    @property
    def deviations(self) -> dict[Modality, Floats]:
        """Standard deviations [C] of each modality; zero where what varies is noise of rounding."""
        squares, variances = np.diag(self._products) / self._count, np.diag(self._covariance)
        return self._split(np.sqrt(np.where(variances > _NEGLIGIBLE * squares, variances, 0)))

    def correlated(self, dims: int) -> Correlated:
        """The `dims` directions that correlate most between modalities, or as many as there are."""
        covariance = self._covariance
        edges = np.cumsum([0, *self._widths.values()])
        whitenings = [whitening_matrix(covariance[a:b, a:b], b - a) for a, b in itertools.pairwise(edges)]
        white = block_diag(*whitenings)
        variances, directions = np.linalg.eigh(white.T @ covariance @ white)
        strongest = directions[:, ::-1][:, :dims]
        ends = np.cumsum([matrix.shape[1] for matrix in whitenings])[:-1]
        means = self.means
        views = {
            m: View(means[m], matrix @ _normalised(block))
            for m, matrix, block in zip(self._widths, whitenings, np.split(strongest, ends), strict=True)
        }
        return Correlated(views, (variances[::-1][:dims] - 1) / (len(views) - 1))

    @property
    def _covariance(self) -> Floats:
        mean = self._sum / self._count
        covariance: Floats = self._products / self._count - np.outer(mean, mean)
        return covariance

    def _split(self, values: Floats) -> dict[Modality, Floats]:
        ends = np.cumsum([*self._widths.values()])[:-1]
        return dict(zip(self._widths, np.split(values, ends), strict=True))


def _normalised(directions: Floats) -> Floats:
    """Columns of unit length; those that are noise of rounding are zero."""
    lengths = np.linalg.norm(directions, axis=0)
    return np.where(lengths > _NEGLIGIBLE, directions / lengths.clip(min=_NEGLIGIBLE), 0)


def whitening_matrix(covariance: Floats, dims: int) -> Floats:
    """The `dims` principal components [C, D] of [C, C], or as many as there are, scaled to unit variance."""
    variances, directions = np.linalg.eigh(covariance)
    kept = [i for i in range(len(variances) - 1, -1, -1) if variances[i] > _NEGLIGIBLE * variances[-1]][:dims]
    matrix: Floats = directions[:, kept] / np.sqrt(variances[kept])
    return matrix


def aligned_features(batch: Mapping[str, Tensor], modalities: Sequence[str]) -> dict[Modality, Floats]:
    """Features [P, C] of some modalities of a batch, row for row at the same time.

    Pictures are seen by their spatial mean, and words last as long as their clip.
    """
    features = {m: spatial_mean(batch[m]) for m in MODALITIES if m in modalities}
    time = next((x.shape[1] for m, x in features.items() if m != "text"), None)
    if time is not None and "text" in features:
        features["text"] = spread_over_time(features["text"], batch.get("text_mask"), time)
    return {m: x.flatten(0, 1).double().numpy() for m, x in features.items()}
