"""Each loss in float64 against the formula written out with loops (docs/fcid.md 2.5, 3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training.losses.club import ClubNet, club_bound, club_likelihood_loss
from training.losses.cmcm import code_matching_loss
from training.losses.commitment import commitment_loss
from training.losses.cpc import Predictor, cross_cpc_loss
from training.losses.infonce import info_nce_loss

BATCH, TIME, DIM, CODES = 5, 4, 6, 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(value: Tensor, expected: float) -> bool:
    return math.isclose(float(value.detach()), expected, rel_tol=1e-10, abs_tol=1e-12)


def mean_square(a: Tensor, b: Tensor) -> float:
    return (
        sum((x - y) ** 2 for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)) / a.numel()
    )


@pytest.mark.parametrize(("names", "partner"), [("avt", 0.125), ("av", 0.25), ("a", 0.0)])
def test_commitment_weighs_own_and_partner_rows(names: str, partner: float) -> None:
    latents = {name: noise(BATCH, DIM) for name in names}
    rows = {name: noise(BATCH, DIM) for name in names}
    losses = commitment_loss(latents, rows, beta=0.25)
    assert list(losses) == list(names)
    for name in names:
        expected = 0.5 * mean_square(latents[name], rows[name])
        expected += sum(partner * mean_square(latents[name], rows[other]) for other in names if other != name)
        assert close(losses[name], expected)


def test_club_likelihood_is_that_of_a_gaussian() -> None:
    net = ClubNet(DIM, 3, 8).double()
    x, y = noise(BATCH, TIME, DIM), noise(BATCH, TIME, 3)
    mean, log_variance = net(x)
    gaussian = torch.distributions.Normal(mean, log_variance.exp().sqrt())
    expected = -gaussian.log_prob(y).sum(-1).mean() - 3 * math.log(2 * math.pi) / 2
    assert close(club_likelihood_loss(net, x, y), float(expected.detach()))


def test_club_variance_stays_within_one_nat() -> None:
    _, log_variance = ClubNet(DIM, 3, 8)(1e4 * torch.randn(50, DIM))
    assert log_variance.abs().max() <= 1


def test_club_bound_averages_over_time_before_it_exponentiates() -> None:
    net, permutation = ClubNet(DIM, 3, 8).double(), torch.tensor([3, 1, 4, 0, 2])
    x, y = noise(BATCH, TIME, DIM), noise(BATCH, TIME, 3)
    mean, log_variance = (t.tolist() for t in net(x))
    total = 0.0
    for b, d in itertools.product(range(BATCH), range(3)):
        variance = sum(log_variance[b][t][d] for t in range(TIME)) / TIME
        near = sum((mean[b][t][d] - float(y[b, t, d])) ** 2 for t in range(TIME)) / TIME
        far = sum((mean[b][t][d] - float(y[permutation[b], t, d])) ** 2 for t in range(TIME)) / TIME
        total += math.exp(-variance) * (far - near)
    assert close(club_bound(net, x, y, permutation), total / BATCH / 2)
    assert close(club_bound(net, x, y, permutation, "paper"), total / BATCH / 2)


def test_club_bound_without_time_as_intended_and_as_released() -> None:
    net, permutation = ClubNet(DIM, 3, 8).double(), torch.tensor([3, 1, 4, 0, 2])
    x, y = noise(BATCH, DIM), noise(BATCH, 3)
    mean, log_variance = (t.tolist() for t in net(x))
    intended = released = 0.0
    for b in range(BATCH):
        gaps = [
            (mean[b][d] - float(y[permutation[b], d])) ** 2 - (mean[b][d] - float(y[b, d])) ** 2
            for d in range(3)
        ]
        intended += sum(math.exp(-log_variance[b][d]) * gaps[d] for d in range(3)) / BATCH
        released += math.exp(-sum(log_variance[b]) / 3) * sum(gaps) / 3
    assert close(club_bound(net, x, y, permutation), intended / 2)
    assert close(club_bound(net, x, y, permutation, "paper"), released / 2)


def cross_entropy_of_rows(score: Callable[[int, int], float], size: int) -> float:
    """-mean_i log( exp s_ii / sum_j exp s_ij )."""
    total = 0.0
    for i in range(size):
        total -= score(i, i) - math.log(sum(math.exp(score(i, j)) for j in range(size)))
    return total / size


def test_cross_cpc_contrasts_the_guesses_of_other_clips_for_each_target() -> None:
    targets = {name: noise(BATCH, DIM) for name in ("audio", "video")}
    guesses = {name: noise(BATCH, DIM) for name in ("audio", "video")}
    expected = 0.0
    for target, guess in itertools.product(targets, guesses):
        z, c = targets[target], guesses[guess]
        weight = 0.1 if target == guess else 1.0
        expected += weight * cross_entropy_of_rows(lambda i, j, z=z, c=c: float((z[i] * c[j]).sum()), BATCH)
    assert close(cross_cpc_loss(targets, guesses), expected)


def test_a_prediction_depends_on_the_past_alone() -> None:
    predictor, past = Predictor(DIM), torch.randn(2, 3, DIM)
    longer = torch.cat([past, torch.randn(2, 1, DIM)], dim=1)
    assert torch.equal(predictor(past), predictor(longer[:, :3]))
    assert not torch.allclose(predictor(past), predictor(longer))


def test_info_nce_contrasts_cosines_in_one_direction() -> None:
    query, key = noise(BATCH, DIM), noise(BATCH, DIM)

    def cosine(i: int, j: int) -> float:
        return float((query[i] * key[j]).sum() / query[i].norm() / key[j].norm()) / 0.1

    assert close(info_nce_loss(query, key, 0.1), cross_entropy_of_rows(cosine, BATCH))
    assert not close(info_nce_loss(key, query, 0.1), cross_entropy_of_rows(cosine, BATCH))


def released_matching_loss(left: Tensor, right: Tensor, transposed: bool) -> float:
    """docs/fcid.md 2.5 for one pair of squared distances [B, T, K], with the score's published or released half."""
    p, q = (
        torch.stack([torch.stack([torch.softmax(-s.sqrt(), -1) for s in clip]).mean(0) for clip in squared])
        for squared in (left, right)
    )
    score = torch.zeros(BATCH, BATCH, dtype=torch.float64)
    for i, j in itertools.product(range(BATCH), range(BATCH)):
        score[i, j] += (p[i] * torch.log(q[j] + 1e-10)).sum()
        a, b = (i, j) if transposed else (j, i)
        score[i, j] += (q[a] * torch.log(p[b] + 1e-10)).sum()
    e = torch.exp(score + (-score).max())
    return float(-sum(torch.log(e[i, i] / e[i].sum()) for i in range(BATCH)) / BATCH)


@pytest.mark.parametrize("matching", ["intended", "paper"])
def test_code_matching_is_half_the_sum_over_pairs(matching: str) -> None:
    squared = {name: 9 * torch.rand(BATCH, TIME, CODES, dtype=torch.float64) for name in "vat"}
    pairs = itertools.combinations(squared.values(), 2)
    expected = sum(released_matching_loss(x, y, matching == "paper") for x, y in pairs) / 2
    assert close(code_matching_loss(squared, matching), expected)  # type: ignore[arg-type]


def test_code_matching_has_a_finite_gradient_where_a_vector_meets_a_code() -> None:
    squared = {name: torch.rand(BATCH, 1, CODES).requires_grad_() for name in "av"}
    with torch.no_grad():
        squared["a"][0, 0, 0] = 0.0
        squared["v"][1, 0, 2] = -1e-9
    code_matching_loss(squared).backward()  # type: ignore[no-untyped-call]
    for tensor in squared.values():
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
