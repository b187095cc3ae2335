"""Ranks in retrieval, fair to ties: what is expected if equally good candidates come in a random order.

Vectors of codes are few and equal for many items, so large groups tie exactly; any fixed order of them rewards or
punishes the order of the files. N queries, M candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]
AT = (1, 5, 10)
_DECIMALS = 9
_QUERIES = 500  # at a time: a table of all queries and candidates can be larger than memory


@dataclass(frozen=True)
class Places:
    """Where the best of what a query looks for stands, for each of N queries."""

    before: NDArray[np.int64]  # [N]: candidates with a higher score
    tied: NDArray[np.int64]  # [N]: candidates with the same score, it among them
    wanted: NDArray[np.int64]  # [N]: how many of the tied are looked for

    def expected_ranks(self) -> Floats:
        """The expected rank [N], from one: the first of w wanted among t tied is expected at (t + 1) / (w + 1)."""
        return self.before + (self.tied + 1) / (self.wanted + 1)

    def hits(self, k: int) -> Floats:
        """The probability [N] that it is among the first `k`.

        One less the probability that the first k - before of the tied are all of the others:
        C(tied - wanted, m) / C(tied, m).
        """
        drawn = np.clip(k - self.before, 0, self.tied)
        others = self.tied - self.wanted
        # Where more are drawn than there are others, one must be wanted.
        missed = np.exp(
            _log_choose(others, np.minimum(drawn, others)) - _log_choose(self.tied, np.minimum(drawn, others))
        )
        return np.where(drawn > others, 1.0, np.clip(1.0 - missed, 0.0, 1.0))

    def figures(self) -> dict[str, float]:
        """R@1, R@5 and R@10 as shares, and the median and the mean of the expected ranks."""
        ranks = self.expected_ranks()
        recalls = {f"R@{k}": float(self.hits(k).mean()) for k in AT}
        return {**recalls, "median rank": float(np.median(ranks)), "mean rank": float(ranks.mean())}


def places(scores: Floats, wanted: NDArray[np.bool_]) -> Places:
    """From scores [N, M] and what each query looks for, bool [N, M], at least one each."""
    best = np.where(wanted, scores, -np.inf).max(axis=1, keepdims=True)
    tied = scores == best
    return Places((scores > best).sum(axis=1), tied.sum(axis=1), (tied & wanted).sum(axis=1))


def ranked(
    queries: Floats,
    candidates: Floats,
    query_items: NDArray[np.int64],
    candidate_items: NDArray[np.int64],
) -> Places:
    """Places by the cosine of vectors [N, D] and [M, D]; a vector of zeros is equally far from all.

    A query of item i looks for all candidates of item i, at least one. Every different direction is compared once,
    so that equal ones tie exactly whatever the order of summation.
    """
    query, query_of = _different(queries)
    candidate, candidate_of = _different(candidates)
    similarities = query @ candidate.T
    parts = [
        places(
            similarities[np.ix_(query_of[rows], candidate_of)],
            query_items[rows, None] == candidate_items,
        )
        for rows in np.array_split(np.arange(len(queries)), -(-len(queries) // _QUERIES))
    ]
    return Places(
        np.concatenate([one.before for one in parts]),
        np.concatenate([one.tied for one in parts]),
        np.concatenate([one.wanted for one in parts]),
    )


def _different(vectors: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """The different directions as unit vectors, and which of them each row has.

    The mean of ten equal rows and that of seven differ in their last bits, which are therefore left out.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.round(vectors / np.where(lengths > 0, lengths, 1.0), _DECIMALS)
    # Adding zero turns a negative zero into a positive one.
    rows, which = np.unique(units + 0.0, axis=0, return_inverse=True)
    return rows, which.reshape(-1)


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> Floats:
    logarithm: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logarithm
