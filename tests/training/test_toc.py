"""TOC: the closed form, the settings of the released scripts, and channels that are known to be useless."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TrainingError
from training.toc import channel_scores, cosine_similarities, mean_similarity, select, select_channels


@settings(max_examples=20, deadline=None)
@given(
    codes=st.integers(2, 12), channels=st.integers(1, 5), weight=st.floats(0, 1), seed=st.integers(0, 10**6)
)
def test_scores_equal_the_double_loop(codes: int, channels: int, weight: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    e = 1 + torch.randn(codes, channels, generator=generator, dtype=torch.float64)
    similarity = torch.zeros(channels, dtype=torch.float64)
    for i in range(codes):
        for j in range(codes):
            if i != j:
                similarity += e[i] * e[j]
    similarity /= codes * (codes - 1)
    variance = ((e - e.sum(0) / codes) ** 2).sum(0) / (codes - 1)
    expected = weight * variance - (1 - weight) * similarity
    torch.testing.assert_close(channel_scores(e, lambda_=weight), expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    codes=st.integers(2, 12), channels=st.integers(1, 5), zeros=st.integers(0, 2), seed=st.integers(0, 10**6)
)
def test_the_mean_cosine_equals_the_double_loop(codes: int, channels: int, zeros: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    e = 0.5 + torch.randn(codes, channels, generator=generator, dtype=torch.float64)
    e[:zeros] = 0
    total, matrix = 0.0, cosine_similarities(e)
    for i in range(codes):
        for j in range(codes):
            lengths = float(e[i].norm() * e[j].norm())
            cosine = float(e[i] @ e[j]) / lengths if lengths else 0.0
            assert abs(float(matrix[i, j]) - cosine) < 1e-12
            total += cosine if i != j else 0.0
    assert abs(mean_similarity(e) - total / (codes * (codes - 1))) < 1e-12


def test_scores_of_a_float32_codebook_are_computed_in_float64() -> None:
    codebook = 100 + torch.randn(400, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(channel_scores(codebook), channel_scores(codebook.double()), rtol=0, atol=0)


def test_planted_dead_channels_are_dropped() -> None:
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(64, 32, generator=generator)
    dead = [0, 7, 8, 31]
    codebook[:, dead] = 2.0 + 0.01 * torch.randn(64, len(dead), generator=generator)
    assert select_channels(codebook, 28) == [k for k in range(32) if k not in dead]


def test_a_selection_says_what_it_keeps() -> None:
    codebook = torch.randn(64, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    codebook[:, [1, 6]] = torch.tensor([3.0, -2.0], dtype=torch.float64)
    selection = select(codebook, 4)
    assert selection.dead == (1, 6)
    assert selection.dead_dropped == 2
    assert torch.equal(selection.kept_table, codebook[:, list(selection.kept)])
    variance = codebook.var(dim=0)
    expected = float(variance[list(selection.kept)].sum() / variance.sum())
    assert abs(selection.variance_kept - expected) < 1e-12
    assert select(codebook, 8).variance_kept == 1.0
    assert select(codebook, 8).dead_dropped == 0
    assert mean_similarity(selection.kept_table) < mean_similarity(codebook) - 0.3


def test_codes_that_are_all_equal_leave_nothing_to_choose() -> None:
    selection = select(torch.ones(5, 3), 2)
    assert selection.dead == (0, 1, 2)
    assert selection.variance_kept == 1.0


def test_channels_come_in_ascending_order_and_all_switch_it_off() -> None:
    codebook = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    assert select_channels(codebook, 16) == list(range(16))
    kept = select_channels(codebook, 5)
    assert kept == sorted(kept)
    assert set(kept) == set(channel_scores(codebook).topk(5).indices.tolist())


@pytest.mark.parametrize(("keep", "ratio"), [(224, (1, 0)), (224, (1, 1)), (128, (3, 1)), (10, (3, 1))])
def test_ratios_of_the_released_scripts(keep: int, ratio: tuple[int, int]) -> None:
    codebook = torch.randn(400, 256, generator=torch.Generator().manual_seed(2))
    scores = channel_scores(codebook)
    highest, lowest = (keep // (ratio[0] + ratio[1]) * part for part in ratio)
    expected = {*scores.topk(highest).indices.tolist(), *scores.topk(lowest, largest=False).indices.tolist()}
    assert select_channels(codebook, keep, ratio=ratio) == sorted(expected)


@pytest.mark.parametrize(
    ("keep", "ratio"), [(0, (1, 0)), (9, (1, 0)), (4, (0, 0)), (4, (2, -1)), (4, (4, 1))]
)
def test_what_cannot_be_kept_is_refused(keep: int, ratio: tuple[int, int]) -> None:
    with pytest.raises(TrainingError, match="TOC"):
        select_channels(torch.randn(5, 8), keep, ratio=ratio)


@pytest.mark.parametrize(
    "codebook",
    [
        torch.randn(8),
        torch.randn(2, 3, 4),
        torch.randn(1, 4),
        torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]),
    ],
    ids=["vector", "levels", "one code", "not finite"],
)
def test_what_is_no_codebook_is_refused(codebook: torch.Tensor) -> None:
    with pytest.raises(TrainingError, match="TOC"):
        select_channels(codebook, 1)
