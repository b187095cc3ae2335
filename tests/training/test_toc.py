"""TOC: the closed form, the settings of the released scripts, and channels that are known to be useless."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TrainingError
from training.toc import channel_scores, select_channels


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


def test_planted_dead_channels_are_dropped() -> None:
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(64, 32, generator=generator)
    dead = [0, 7, 8, 31]
    codebook[:, dead] = 2.0 + 0.01 * torch.randn(64, len(dead), generator=generator)
    assert select_channels(codebook, 28) == [k for k in range(32) if k not in dead]


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
