"""The nuisance probe: how much of what has nothing to do with the event can be told from the codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch import Tensor

from tessera.windows import Modality
from training.evaluation.coder import Coded

Nuisance = Mapping[Modality, NDArray[np.floating]]
"""By modality what the generator added: of each clip [N, P], or of each segment [N, T, P]."""


def nuisance_share(
    fit: Coded,
    fit_nuisance: NDArray[np.floating],
    test: Coded,
    test_nuisance: NDArray[np.floating],
    sizes: Sequence[int],
) -> float:
    """The share of the variance (R^2) of the nuisance that a ridge regression tells from codes of other clips.

    It sees which codes there are, not what they stand for, so it finds whatever a linear map of any embedding could.
    Lower is better; below zero is worse than the mean of the clips fitted on.
    """
    ridge = Ridge(alpha=1.0).fit(*_examples(fit, fit_nuisance, sizes))
    codes, truth = _examples(test, test_nuisance, sizes)
    return float(r2_score(truth, ridge.predict(codes), multioutput="variance_weighted"))


def _examples(
    coded: Coded, nuisance: NDArray[np.floating], sizes: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Codes and nuisance, row by row: of segments where the nuisance changes within a clip, else of clips."""
    truth = np.asarray(nuisance, dtype=np.float64)
    if truth.ndim < 3:
        return coded.histograms(sizes).numpy(), truth.reshape(len(truth), -1)
    real: Tensor = coded.real
    return coded.one_hot(sizes)[real].numpy(), truth[real.numpy()]
