"""What every quantiser owes a model, and what is particular to residual and to finite scalar quantisation."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.config import CodebookConfig
from training.quantizers.catalogue import build_quantizer
from training.quantizers.fsq import FiniteScalarQuantizer
from training.quantizers.quantizer import Quantizer
from training.quantizers.residual import ResidualQuantizer
from training.quantizers.usage import usage
from training.quantizers.vector import VectorQuantizer

DIM, SIZE, DEPTH, FSQ_LEVELS = 6, 10, 3, (4, 3, 2)
NAMES = ("audio", "video", "text")
KINDS: dict[str, tuple[type[Quantizer], int, int]] = {
    "vq": (VectorQuantizer, 1, SIZE),
    "residual": (ResidualQuantizer, DEPTH, DEPTH * SIZE),
    "fsq": (FiniteScalarQuantizer, 1, math.prod(FSQ_LEVELS)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def quantizer(kind: str, **settings: Any) -> Quantizer:
    config = {"quantizer": kind, "size": SIZE, "depth": DEPTH, "fsq_levels": FSQ_LEVELS, **settings}
    return build_quantizer(CodebookConfig(**config), DIM).double()


def batch(clips: int = 4, time: int = 5) -> dict[str, Tensor]:
    return {name: torch.randn(clips, time, DIM, dtype=torch.float64) for name in NAMES}


@every_kind
def test_codes_are_those_of_inference_and_decode_to_the_rows(kind: str, draws: torch.Generator) -> None:
    q = quantizer(kind)
    for _ in range(3):
        q.quantize(batch(), draws)
    latents = batch()
    quantized = q.eval().quantize(latents, draws)
    cls, levels, rows = KINDS[kind]
    assert type(q) is cls
    assert q.levels == levels
    assert q.table().shape == (rows, DIM)
    for name, z in latents.items():
        codes, margins = q.assign(z)
        assert codes.shape == margins.shape == (4, 5, levels)
        assert codes.dtype == torch.int64
        assert (margins >= 0).all()
        assert torch.equal(codes, quantized.codes[name])
        torch.testing.assert_close(q.decode(codes), quantized.rows[name])
        torch.testing.assert_close(quantized.vectors[name], quantized.rows[name])
        if levels == 1:
            assert torch.equal(q.table()[codes.squeeze(-1)], q.decode(codes))
    assert (quantized.distances is not None) == (kind == "vq")


@every_kind
def test_a_small_step_within_the_margin_keeps_the_code(kind: str, draws: torch.Generator) -> None:
    q = quantizer(kind).eval() if kind == "fsq" else quantizer(kind, reset="none")
    q.quantize(batch(), draws)
    z = torch.randn(200, DIM, dtype=torch.float64)
    codes, margins = q.assign(z)
    safe = (margins > 0.05).all(dim=-1)
    # A step in the latents moves a distance twice, or a channel by what the projection makes of it.
    step = 0.02 * torch.nn.functional.normalize(torch.randn_like(z), dim=-1)
    moved = q.assign(z + step).codes
    assert safe.sum() > 20
    assert torch.equal(moved[safe], codes[safe])


@pytest.mark.parametrize("kind", ["vq", "residual"])
def test_the_gradient_of_the_vectors_is_the_identity(kind: str, draws: torch.Generator) -> None:
    q, latents = quantizer(kind), {name: z.requires_grad_() for name, z in batch().items()}
    quantized = q.quantize(latents, draws)
    weight = torch.randn(4, 5, DIM, dtype=torch.float64)
    torch.stack([(vector * weight).sum() for vector in quantized.vectors.values()]).sum().backward()
    for name, z in latents.items():
        assert z.grad is not None
        assert torch.equal(z.grad, weight)
        assert not quantized.rows[name].requires_grad
    assert not list(q.parameters())


def test_residual_rows_are_sums_and_each_codebook_gets_what_is_left(draws: torch.Generator) -> None:
    q = quantizer("residual")
    assert isinstance(q, ResidualQuantizer)
    q.quantize(batch(), draws)
    q.eval()
    z = torch.randn(7, DIM, dtype=torch.float64)
    codes, _ = q.assign(z)
    tables = q.table().split(SIZE)
    for vector, index, row in zip(z, codes, q.decode(codes), strict=True):
        left, total = vector.clone(), torch.zeros_like(vector)
        for table, code in zip(tables, index, strict=True):
            assert int(code) == int((table - left).norm(dim=1).argmin())
            left, total = left - table[code], total + table[code]
        torch.testing.assert_close(row, total)


def test_every_further_codebook_lowers_the_error(draws: torch.Generator) -> None:
    latents = batch(30)
    errors = []
    for depth in (1, 2, 3, 4):
        q = quantizer("residual", depth=depth, reset="none")
        for _ in range(5):
            quantized = q.quantize(latents, torch.Generator().manual_seed(1))
        errors.append(sum(float((quantized.rows[m] - latents[m]).square().mean()) for m in NAMES))
    assert all(deeper < 0.9 * shallower for shallower, deeper in itertools.pairwise(errors))


def test_a_residual_codebook_moves_by_the_mixed_residuals() -> None:
    q = quantizer("residual", depth=2, start="uniform", reset="none", decay=0.9)
    assert isinstance(q, ResidualQuantizer)
    for buffer in (book.sums for book in q.codebooks):
        buffer.copy_(torch.randn_like(buffer))  # type: ignore[operator, arg-type]
    tables, latents = [book.table for book in q.codebooks], batch()
    lone = quantizer("vq", start="uniform", reset="none", decay=0.9)
    assert isinstance(lone, VectorQuantizer)
    lone.codebook.load_state_dict(q.codebooks[1].state_dict())
    left = {m: z - tables[0][torch.cdist(z, tables[0]).argmin(-1)] for m, z in latents.items()}
    q.quantize(latents, torch.Generator())
    lone.quantize(left, torch.Generator())
    torch.testing.assert_close(q.codebooks[1].table, lone.table())
    assert not torch.allclose(q.codebooks[1].table, tables[1])


any_levels = st.lists(st.integers(2, 7), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(levels=any_levels, seed=st.integers(0, 10**6))
def test_fsq_codes_and_channel_values_go_round(levels: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    q = build_quantizer(CodebookConfig(quantizer="fsq", fsq_levels=tuple(levels)), DIM).double()
    assert isinstance(q, FiniteScalarQuantizer)
    # With channels taken as they are, what a code decodes to is its place on the grid, of -1 to 1.
    with torch.no_grad():
        q.expand = torch.nn.Linear(len(levels), len(levels), dtype=torch.float64)
        q.expand.weight.copy_(torch.eye(len(levels)))
        q.expand.bias.zero_()
    grid = q.table()
    assert grid.shape == (math.prod(levels), len(levels))
    expected = []
    for code in range(math.prod(levels)):
        row, rest = [], code
        for count in levels:
            row.append((rest % count - count // 2) / (count // 2))
            rest //= count
        expected.append(row)
    torch.testing.assert_close(grid, torch.tensor(expected, dtype=torch.float64))
    z = 5 * torch.randn(50, DIM, dtype=torch.float64)
    codes, margins = q.assign(z)
    assert codes.min() >= 0
    assert codes.max() < math.prod(levels)
    assert margins.max() <= 0.5
    for vector, code, margin in zip(z, codes.flatten(), margins.detach().flatten(), strict=True):
        value, slack = slow_fsq(q, vector, levels)
        assert int(code) == value
        assert float(margin) == pytest.approx(slack, abs=1e-9)


def slow_fsq(q: FiniteScalarQuantizer, vector: Tensor, levels: list[int]) -> tuple[int, float]:
    """Code and margin from Mentzer et al. 2023, channel by channel."""
    code, radix, slack = 0, 1, math.inf
    for channel, count in zip(q.compress(vector).tolist(), levels, strict=True):
        reach, offset = (count - 1) * 0.999 / 2, 0.0 if count % 2 else 0.5
        bounded = math.tanh(channel + math.tan(offset / reach)) * reach - offset
        values = range(-(count // 2), count - count // 2)
        value = min(values, key=lambda v, bounded=bounded: abs(v - bounded))
        slack = min(slack, *(abs(v + 0.5 - bounded) for v in values[:-1]))
        code, radix = code + radix * (value + count // 2), radix * count
    return code, slack


@pytest.mark.parametrize("levels", [(2,), (5,), (8, 5, 5, 2)])
def test_every_fsq_code_can_be_reached(levels: tuple[int, ...]) -> None:
    q = build_quantizer(CodebookConfig(quantizer="fsq", fsq_levels=levels), len(levels))
    assert isinstance(q, FiniteScalarQuantizer)
    with torch.no_grad():
        q.compress.weight.copy_(torch.eye(len(levels)))
        q.compress.bias.zero_()
    codes, _ = q.assign(torch.empty(40_000, len(levels)).uniform_(-3, 3))
    assert len(codes.unique()) == math.prod(levels) == q.size


def test_gradients_pass_the_rounding_of_fsq_and_reach_both_projections(draws: torch.Generator) -> None:
    q, latents = quantizer("fsq"), {name: z.requires_grad_() for name, z in batch().items()}
    assert isinstance(q, FiniteScalarQuantizer)
    quantized = q.quantize(latents, draws)
    weight = torch.randn(4, 5, DIM, dtype=torch.float64)
    (quantized.vectors["audio"] * weight).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in q.parameters())
    assert not any(row.requires_grad for row in quantized.rows.values())
    # As if nothing had been rounded: through the scale, the slope of the bound and the projection.
    z = latents["audio"].detach().requires_grad_()
    widths = torch.tensor(FSQ_LEVELS, dtype=torch.float64)
    reach, offset = (widths - 1) * 0.999 / 2, torch.where(widths % 2 == 0, 0.5, 0.0)
    smooth = torch.tanh(q.compress(z) + torch.tan(offset / reach)) * reach
    ((smooth / (widths // 2)) @ q.expand.weight.T * weight).sum().backward()
    torch.testing.assert_close(latents["audio"].grad, z.grad)


def test_fsq_keeps_float32_under_autocast(draws: torch.Generator) -> None:
    q, latents = quantizer("fsq").float(), {name: z.float() for name, z in batch().items()}
    exact, codes = q.quantize(latents, draws), q.assign(latents["text"]).codes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = q.quantize(latents, draws)
        assert torch.equal(q.assign(latents["text"]).codes, codes)
    assert all(torch.equal(exact.vectors[name], cast.vectors[name]) for name in NAMES)


@every_kind
def test_a_quantizer_goes_on_from_its_saved_state(kind: str) -> None:
    first, second = quantizer(kind), quantizer(kind)
    first.quantize(batch(), torch.Generator().manual_seed(1))
    second.load_state_dict(first.state_dict())
    latents = batch()
    ends = [q.quantize(latents, torch.Generator().manual_seed(2)) for q in (first, second)]
    assert torch.equal(ends[0].codes["text"], ends[1].codes["text"])
    assert torch.equal(first.table(), second.table())


def test_usage_is_counted_by_modality() -> None:
    codes = {"audio": torch.tensor([[0], [1], [2], [3]]), "video": torch.ones(4, 1, 1, dtype=torch.int64)}
    figures = usage(codes, 4)
    assert figures["perplexity_audio"] == pytest.approx(4)
    assert figures["perplexity_video"] == pytest.approx(1)
    assert figures["used"] == figures["used_audio"] == 1
    assert figures["used_video"] == 0.25
    shares = [1 / 8, 5 / 8, 1 / 8, 1 / 8]
    assert figures["perplexity"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    assert not any("mean" in name for name in figures)


def test_usage_of_several_levels_is_of_the_first_and_their_mean() -> None:
    codes = {"audio": torch.tensor([[0, 2], [1, 2], [2, 2], [3, 2]])}
    figures = quantizer("residual", size=8).usage(codes)
    assert figures["perplexity"] == figures["perplexity_audio"] == pytest.approx(4)
    assert figures["used"] == 0.5
    assert figures["perplexity_mean"] == pytest.approx((4 + 1) / 2)
    assert figures["used_mean"] == pytest.approx((0.5 + 0.125) / 2)


@every_kind
def test_usage_has_the_size_of_the_quantizer(kind: str, draws: torch.Generator) -> None:
    q = quantizer(kind)
    codes = {"audio": torch.zeros(3, 2, q.levels, dtype=torch.int64)}
    size = KINDS[kind][2] // q.levels
    assert q.usage(codes)["used_audio"] == pytest.approx(1 / size)
