"""When two computations are the same model: ties are a matter of the codebook's size, and there are few of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tessera.agreement import Allowed, Rule, epsilon_of
from tessera.manifest import Comparison

GOOD = Comparison(
    codes=1_000, mismatches=10, largest_margin=9e-5, max_abs_margin=9e-5, max_abs_latent=9e-4,
    largest_latent=1.0, largest_embedding=1.0,
)  # fmt: skip


def test_a_tie_is_as_small_as_the_codebook() -> None:
    assert epsilon_of("fp32", spread=10, longest=10) == pytest.approx(2e-3)
    assert epsilon_of("fp32", spread=0.02, longest=0.02) == pytest.approx(4e-6)
    # Of latents far longer than a codebook is wide, float32 itself leaves more uncertain.
    assert epsilon_of("fp32", spread=0.02, longest=50) == pytest.approx(5e-5)
    assert epsilon_of("fp16", spread=10, longest=10) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "worse",
    [
        {"mismatches": 11},
        {"largest_margin": 1e-4},
        {"largest_margin": math.inf},
        {"max_abs_margin": 1e-4},
        {"max_abs_latent": 2e-3},
        {"max_abs_latent": math.inf},
        {"max_abs_embedding": 1e-4},
        {"largest_embedding": 1e-3, "max_abs_embedding": 1e-7},
    ],
)
def test_what_is_too_far_apart(worse: dict[str, float]) -> None:
    rule = Rule(1e-4)
    assert rule.fault(GOOD) is None
    bad = GOOD.model_copy(update=worse)
    assert rule.fault(bad) is not None
    fault = rule.fault(GOOD.model_copy(update={"parts": {"segments": GOOD, "clips": bad}}))
    assert fault is not None
    assert "(clips)" in fault


def test_a_feature_may_be_off_by_a_step_where_the_backbone_rounds() -> None:
    expected = np.full((1, 100), 10.0, np.float32)
    actual = expected.copy()
    actual[0, :2] += 1
    assert Allowed(step=1.0).stepped(expected, actual) == 2
    assert Allowed().stepped(expected, actual) is None
    assert Allowed(step=1.0).stepped(expected, actual * np.float32("nan")) is None
