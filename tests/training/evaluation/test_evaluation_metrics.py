"""Metrics against slow formulas, and ranks against every order of the tied."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.metrics import (
    accuracy,
    batch_averaged,
    commonest_class_accuracy,
    constant_guess,
    micro,
)
from training.evaluation.ranking import Places, places, ranked

SEEDS = st.integers(0, 2**32 - 1)


def cells(seed: int, share: float, clips: int = 13, classes: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(clips, 5, classes, generator=generator) < share


def counted(predicted: list[list[list[bool]]], true: list[list[list[bool]]]) -> tuple[float, float]:
    """Precision and recall, cell by cell."""
    right = said = on = 0
    for clip, clip_true in zip(predicted, true, strict=True):
        for second, second_true in zip(clip, clip_true, strict=True):
            for guess, truth in zip(second, second_true, strict=True):
                right, said, on = right + (guess and truth), said + guess, on + truth
    return right / said if said else 0.0, right / on if on else 0.0


@given(SEEDS, st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_micro_figures_count_cells(seed: int, share: float) -> None:
    predicted, true = cells(seed, share), cells(seed + 1, 0.3)
    precision, recall = counted(predicted.tolist(), true.tolist())
    figures = micro(predicted, true).figures()
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert figures == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


@given(SEEDS, st.sampled_from([0.0, 0.02, 0.3]), st.integers(1, 20))
def test_released_figures_average_batches_by_their_sizes(seed: int, share: float, batch: int) -> None:
    predicted, true = cells(seed, share), cells(seed + 1, 0.3)
    precision = recall = 0.0
    for start in range(0, len(true), batch):
        some, some_true = predicted[start : start + batch], true[start : start + batch]
        p, r = counted(some.tolist(), some_true.tolist())
        precision, recall = precision + p * len(some), recall + r * len(some)
    precision, recall = precision / len(true), recall / len(true)
    figures = batch_averaged(predicted, true, batch)
    assert (figures.precision, figures.recall) == pytest.approx((precision, recall))
    assert figures.f1 == pytest.approx(2 * precision * recall / max(precision + recall, 1e-12))


def test_the_two_differ_where_batches_do() -> None:
    true = torch.ones(4, 1, 2, dtype=torch.bool)
    predicted = true.clone()
    predicted[2:] = False
    assert micro(predicted, true).precision == 1.0
    assert batch_averaged(predicted, true, 2).precision == 0.5


@given(SEEDS)
def test_no_constant_guess_is_better_on_the_clips_fitted_on(seed: int) -> None:
    shares = torch.rand(4, generator=torch.Generator().manual_seed(seed)) ** 2
    fit = torch.rand(20, 5, 4, generator=torch.Generator().manual_seed(seed + 1)) < shares
    if not fit.any():
        return
    guesses = [torch.tensor(said) for said in itertools.product([False, True], repeat=4)]
    best = max(micro(guess.expand_as(fit), fit).f1 for guess in guesses)
    assert micro(constant_guess(fit).expand_as(fit), fit).f1 == pytest.approx(best)


def test_accuracies() -> None:
    scores = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert accuracy(scores, torch.tensor([1, 0, 0])) == pytest.approx(2 / 3)
    assert commonest_class_accuracy(torch.tensor([2, 2, 0]), torch.tensor([2, 0, 0, 1])) == 0.25


def brute(scores: list[float], wanted: list[bool]) -> list[int]:
    """The best rank of what is looked for in every order of the candidates that sorts them by score."""
    ranks = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            ranks.append(next(rank for rank, i in enumerate(order, start=1) if wanted[i]))
    return ranks


QUERY = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=1, max_size=6).filter(
    lambda candidates: any(wanted for _, wanted in candidates)
)


@given(QUERY)
def test_ranks_are_those_expected_of_a_random_order_of_the_tied(query: list[tuple[float, bool]]) -> None:
    scores, wanted = [score for score, _ in query], [one for _, one in query]
    ranks = brute(scores, wanted)
    place = places(np.array([scores]), np.array([wanted]))
    assert place.expected_ranks()[0] == pytest.approx(np.mean(ranks))
    for k in range(1, 8):
        assert place.hits(k)[0] == pytest.approx(np.mean([rank <= k for rank in ranks])), k


def test_many_ties_are_counted_without_overflow() -> None:
    place = Places(np.array([3]), np.array([5_000]), np.array([5]))
    missed = math.comb(4_995, 7) / math.comb(5_000, 7)
    assert place.hits(10)[0] == pytest.approx(1 - missed)
    assert place.expected_ranks()[0] == pytest.approx(3 + 5_001 / 6)


@given(SEEDS)
def test_the_order_of_the_files_is_of_no_account(seed: int) -> None:
    """Few different vectors, as codes give them, scaled and in any order: the same figures to the last bit."""
    rng = np.random.default_rng(seed)
    alphabet = rng.normal(size=(4, 33))
    queries, candidates = alphabet[rng.integers(0, 4, 12)], alphabet[rng.integers(0, 4, 30)]
    items = np.concatenate([np.arange(12), rng.integers(0, 12, 18)])
    expected = ranked(queries, candidates, np.arange(12), items).figures()
    order = rng.permutation(30)
    scale = rng.integers(1, 9, (30, 1)) / 7
    moved = ranked(queries, (candidates * scale)[order], np.arange(12), items[order]).figures()
    assert moved == pytest.approx(expected, rel=1e-12)


def test_ranking_is_by_cosine_and_best_of_several() -> None:
    rng = np.random.default_rng(0)
    queries, candidates, items = rng.normal(size=(7, 5)), rng.normal(size=(20, 5)), np.arange(20) % 7
    ranks = []
    for number, query in enumerate(queries):
        cosines = [float(query @ c / np.linalg.norm(query) / np.linalg.norm(c)) for c in candidates]
        order = sorted(range(20), key=lambda i: -cosines[i])
        ranks.append(1 + next(rank for rank, i in enumerate(order) if items[i] == number))
    figures = ranked(queries, candidates, np.arange(7), items).figures()
    assert figures["median rank"] == np.median(ranks)
    assert figures["mean rank"] == pytest.approx(np.mean(ranks))
    assert figures["R@5"] == pytest.approx(np.mean(np.array(ranks) <= 5))


def test_one_vector_for_all_is_chance() -> None:
    figures = ranked(np.zeros((40, 3)), np.ones((40, 3)), np.arange(40), np.arange(40)).figures()
    assert figures["R@10"] == pytest.approx(0.25)
    assert figures["mean rank"] == pytest.approx(20.5)
