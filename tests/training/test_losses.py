"""Each loss in float64, in both variants, against the formula written out with loops (docs/models.md 2.5, 3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.losses.alignment import Critic, segment_contrast_loss
from training.losses.club import ClubNet, club_bound, club_likelihood_loss, released_club_bound
from training.losses.cmcm import code_matching_loss
from training.losses.commitment import commitment_loss
from training.losses.contrast import products
from training.losses.cpc import Contrast, Predictor, cross_cpc_loss
from training.losses.infonce import info_nce_loss
from training.losses.variant import Variant

BATCH, TIME, DIM, CODES = 5, 4, 6, 7
VARIANTS: tuple[Variant, ...] = ("intended", "paper")
both_variants = pytest.mark.parametrize("variant", VARIANTS)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(value: Tensor, expected: float) -> bool:
    return math.isclose(float(value.detach()), expected, rel_tol=1e-10, abs_tol=1e-12)


def mean_square(a: Tensor, b: Tensor) -> float:
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    return sum((x - y) ** 2 for x, y in pairs) / a.numel()


WEIGHTS = {
    ("avt", "intended"): (0.25, 0.0625),
    ("av", "intended"): (0.25, 0.125),
    ("avt", "paper"): (0.5, 0.125),
    ("av", "paper"): (0.5, 0.25),
    ("a", "intended"): (0.25, 0.0),
}


@pytest.mark.parametrize(("names", "variant"), WEIGHTS)
def test_commitment_weighs_own_and_partner_rows(names: str, variant: Variant) -> None:
    own, partner = WEIGHTS[names, variant]
    latents = {name: noise(BATCH, DIM) for name in names}
    rows = {name: noise(BATCH, DIM) for name in names}
    losses = commitment_loss(latents, rows, 0.25, variant)
    alone = commitment_loss(latents, rows, 0.25, variant, partners=False)
    assert list(losses) == list(alone) == list(names)
    for name in names:
        expected = own * mean_square(latents[name], rows[name])
        assert close(alone[name], expected)
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


# With each variant, one way of contrasting.
CONTRASTS: dict[Variant, Contrast] = {"intended": "targets", "paper": "guesses"}


def test_the_released_club_bound_averages_over_time_before_it_exponentiates() -> None:
    net = ClubNet(DIM, 3, 8).double()
    x, y, negatives = noise(BATCH, TIME, DIM), noise(BATCH, TIME, 3), noise(BATCH, TIME, 3)
    mean, log_variance = (t.tolist() for t in net(x))
    total = 0.0
    for b, d in itertools.product(range(BATCH), range(3)):
        variance = sum(log_variance[b][t][d] for t in range(TIME)) / TIME
        near = sum((mean[b][t][d] - float(y[b, t, d])) ** 2 for t in range(TIME)) / TIME
        far = sum((mean[b][t][d] - float(negatives[b, t, d])) ** 2 for t in range(TIME)) / TIME
        total += math.exp(-variance) * (far - near)
    assert close(released_club_bound(net, x, y, negatives), total / BATCH / 2)


def test_the_released_club_bound_without_time_averages_over_channels_and_adds_up_the_batch() -> None:
    net = ClubNet(DIM, 3, 8).double()
    x, y, negatives = noise(BATCH, DIM), noise(BATCH, 3), noise(BATCH, 3)
    mean, log_variance = (t.tolist() for t in net(x))
    released = 0.0
    for b in range(BATCH):
        far = [(mean[b][d] - float(negatives[b, d])) ** 2 for d in range(3)]
        near = [(mean[b][d] - float(y[b, d])) ** 2 for d in range(3)]
        gaps = [f - n for f, n in zip(far, near, strict=True)]
        released += math.exp(-sum(log_variance[b]) / 3) * sum(gaps) / 3
    assert close(released_club_bound(net, x, y, negatives), released / 2)


@pytest.mark.parametrize("time", [TIME, None])
def test_the_club_bound_has_every_clip_as_a_negative(time: int | None) -> None:
    net, shape = ClubNet(DIM, 3, 8).double(), (BATCH, time) if time else (BATCH,)
    x, y = noise(*shape, DIM), noise(*shape, 3)
    gaussian = torch.distributions.Normal(net(x)[0], net(x)[1].exp().sqrt())
    positive = float(gaussian.log_prob(y).sum(-1).mean().detach())
    rolled = [gaussian.log_prob(y.roll(shift, dims=0)).sum(-1).mean() for shift in range(BATCH)]
    negative = sum(float(log_prob.detach()) for log_prob in rolled) / BATCH
    assert close(club_bound(net, x, y), positive - negative)


def cross_entropy_of_rows(score: Callable[[int, int], float], size: int = BATCH) -> float:
    """-mean_i log( exp s_ii / sum_j exp s_ij )."""
    total = 0.0
    for i in range(size):
        total -= score(i, i) - math.log(sum(math.exp(score(i, j)) for j in range(size)))
    return total / size


@pytest.mark.parametrize("critic", ["distance", "cosine"])
def test_the_contrast_of_segments_picks_the_partner_both_ways(critic: Critic) -> None:
    x, y = noise(BATCH, DIM), noise(BATCH, DIM)

    def score(i: int, j: int) -> float:
        if critic == "distance":
            return -0.5 * mean_square(x[i], y[j]) * DIM
        return float(torch.nn.functional.cosine_similarity(x[i], y[j], dim=0)) / 0.2

    expected = (cross_entropy_of_rows(score) + cross_entropy_of_rows(lambda i, j: score(j, i))) / 2
    assert close(segment_contrast_loss(x, y, critic, 0.2), expected)


@pytest.mark.parametrize("contrast", ["guesses", "targets"])
@pytest.mark.parametrize(("names", "steps"), [("av", 1), ("avt", 2)])
def test_cross_cpc_contrasts_targets_as_published_or_guesses_as_released(
    names: str, steps: int, contrast: Contrast
) -> None:
    targets = {name: noise(BATCH, steps, DIM) for name in names}
    guesses = {name: noise(BATCH, steps, DIM) for name in names}
    expected = 0.0
    for target, guess, step in itertools.product(names, names, range(steps)):
        z, c = targets[target][:, step], guesses[guess][:, step]
        weight = (0.1 if target == guess else 1.0) / steps
        if contrast == "targets":
            term = cross_entropy_of_rows(lambda i, j, z=z, c=c: float((c[i] * z[j]).sum()))
        else:
            term = cross_entropy_of_rows(lambda i, j, z=z, c=c: float((z[i] * c[j]).sum()))
        expected += weight * term
    assert close(cross_cpc_loss(targets, guesses, contrast), expected)


def test_a_prediction_depends_on_the_past_alone() -> None:
    predictor, past = Predictor(DIM, steps=3), torch.randn(2, 3, DIM)
    longer = torch.cat([past, torch.randn(2, 1, DIM)], dim=1)
    guesses = predictor(past)
    assert guesses.shape == (2, 3, DIM)
    assert torch.equal(guesses, predictor(longer[:, :3]))
    assert not torch.allclose(guesses, predictor(longer))


def test_each_step_ahead_has_a_guess_of_its_own() -> None:
    predictor, past = Predictor(DIM, steps=2), torch.randn(2, 3, DIM)
    context = predictor.context(past)[0][:, -1]
    for step, linear in enumerate(predictor.predict):
        torch.testing.assert_close(predictor(past)[:, step], linear(context))


def test_info_nce_contrasts_cosines_in_one_direction() -> None:
    query, key = noise(BATCH, DIM), noise(BATCH, DIM)

    def cosine(i: int, j: int) -> float:
        return float((query[i] * key[j]).sum() / query[i].norm() / key[j].norm()) / 0.1

    assert close(info_nce_loss(query, key, 0.1), cross_entropy_of_rows(cosine))
    assert not close(info_nce_loss(key, query, 0.1), cross_entropy_of_rows(cosine))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), temperature=st.floats(0.05, 2))
def test_info_nce_knows_directions_and_no_lengths(seed: int, scale: float, temperature: float) -> None:
    torch.manual_seed(seed)
    query, key = noise(BATCH, DIM), noise(BATCH, DIM)
    loss = info_nce_loss(query, key, temperature)
    torch.testing.assert_close(info_nce_loss(scale * query, key, temperature), loss)
    order = torch.randperm(BATCH)
    torch.testing.assert_close(info_nce_loss(query[order], key[order], temperature), loss)


def matching_loss(left: Tensor, right: Tensor, variant: Variant) -> float:
    """docs/models.md 2.5 for one pair of squared distances [B, T, K], with the published or the released half."""
    p, q = (
        torch.stack([torch.stack([torch.softmax(-s.sqrt(), -1) for s in clip]).mean(0) for clip in squared])
        for squared in (left, right)
    )
    score = torch.zeros(BATCH, BATCH, dtype=torch.float64)
    for i, j in itertools.product(range(BATCH), range(BATCH)):
        score[i, j] += (p[i] * torch.log(q[j] + 1e-10)).sum()
        a, b = (i, j) if variant == "paper" else (j, i)
        score[i, j] += (q[a] * torch.log(p[b] + 1e-10)).sum()
    e = torch.exp(score + (-score).max())
    return float(-sum(torch.log(e[i, i] / e[i].sum()) for i in range(BATCH)) / BATCH)


@both_variants
@pytest.mark.parametrize("names", ["vat", "av"])
def test_code_matching_is_half_the_sum_over_pairs(names: str, variant: Variant) -> None:
    squared = {name: 9 * torch.rand(BATCH, TIME, CODES, dtype=torch.float64) for name in names}
    pairs = itertools.combinations(squared.values(), 2)
    expected = sum(matching_loss(x, y, variant) for x, y in pairs) / 2
    assert close(code_matching_loss(squared, variant), expected)


def test_code_matching_has_a_finite_gradient_where_a_vector_meets_a_code() -> None:
    squared = {name: torch.rand(BATCH, 1, CODES).requires_grad_() for name in "av"}
    with torch.no_grad():
        squared["a"][0, 0, 0] = 0.0
        squared["v"][1, 0, 2] = -1e-9
    code_matching_loss(squared).backward()
    for tensor in squared.values():
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


GRADIENTS: dict[str, Callable[[Tensor, Tensor, Variant], Tensor]] = {
    "cpc": lambda a, v, variant: cross_cpc_loss({"a": a, "v": v}, {"a": v, "v": a.sin()}, CONTRASTS[variant]),
    "cmcm": lambda a, v, variant: code_matching_loss({"a": a.square() + 1, "v": v.square() + 1}, variant),
    "infonce": lambda a, v, variant: info_nce_loss(a[:, 0], v[:, 0], 0.5),
    "contrast": lambda a, v, variant: segment_contrast_loss(
        a.flatten(0, 1), v.flatten(0, 1), "distance", 1.0
    ),
}


@both_variants
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_finite_differences(name: str, variant: Variant) -> None:
    inputs = [noise(3, 2, 4).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, v: GRADIENTS[name](a, v, variant), inputs)


def test_commitment_pulls_latents_and_leaves_rows() -> None:
    latents = {name: noise(BATCH, DIM).requires_grad_() for name in "av"}
    rows = {name: noise(BATCH, DIM) for name in "av"}
    loss = commitment_loss(latents, rows, beta=0.25)["a"]
    (gradient,) = torch.autograd.grad(loss, latents["a"])
    a = latents["a"].detach()
    expected = (2 * 0.25 * (a - rows["a"]) + 2 * 0.125 * (a - rows["v"])) / a.numel()
    torch.testing.assert_close(gradient, expected)
    assert torch.autograd.grad(loss, latents["v"], allow_unused=True) == (None,)


def test_scores_keep_float32_under_autocast() -> None:
    rows, columns = torch.randn(4, 300), torch.randn(6, 300)
    exact = products(rows, columns)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(products(rows, columns), exact)
        assert products(rows.bfloat16(), columns).dtype == torch.float32
