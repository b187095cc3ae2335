"""The EMA codebook against slow loops: assignment, partners, both updates, both resets and the start."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.config import CodebookConfig
from training.quantizers.ema import EMACodebook
from training.quantizers.statistics import refine

SIZE, DIM, TIME = 6, 4, 3
PAPER: dict[str, Any] = {"update": "paper", "start": "uniform"}
NAMES = ("audio", "video", "text")
Latents = dict[str, Tensor]


def codebook(size: int = SIZE, dim: int = DIM, **settings: Any) -> EMACodebook:
    return EMACodebook(CodebookConfig(size=size, **settings), dim).double()


def spread_out(book: EMACodebook) -> EMACodebook:
    """Codes far enough apart to be hit; uniform starts are tiny."""
    book.sums.copy_(torch.randn_like(book.sums))
    if book.config.update == "paper":
        book.paper_table.copy_(book.sums)
    return book


def batch(clips: int = 2, names: tuple[str, ...] = NAMES, time: int = TIME) -> Latents:
    return {name: torch.randn(clips, time, DIM, dtype=torch.float64) for name in names}


def same(row: Tensor) -> Latents:
    """A batch of nothing but `row`."""
    return {name: row.repeat(1, TIME, 1) for name in NAMES}


def nearest(table: Tensor, z: Tensor) -> int:
    best, at = float("inf"), -1
    for k, row in enumerate(table):
        distance = float(((z - row) ** 2).sum())
        if distance < best:
            best, at = distance, k
    return at


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 9))
def test_assignment_is_the_nearest_code_and_its_margin(seed: int, size: int) -> None:
    torch.manual_seed(seed)
    book = spread_out(codebook(size))
    latents = torch.randn(2, 3, DIM, dtype=torch.float64)
    codes, margins = book.assign(latents)
    assert codes.shape == margins.shape == (2, 3)
    for z, code, margin in zip(latents.flatten(0, 1), codes.flatten(), margins.flatten(), strict=True):
        distances = sorted(float((z - row).norm()) for row in book.table)
        assert int(code) == nearest(book.table, z)
        assert float(margin) == pytest.approx(distances[1] - distances[0], abs=1e-7)


def test_the_first_of_equal_codes_wins_with_no_margin() -> None:
    book = codebook()
    # Whole numbers, whose distances are exact in whatever order a processor adds them.
    book.sums.copy_(torch.arange(book.sums.numel()).view_as(book.sums))
    book.sums[4] = book.sums[1]
    codes, margins = book.assign(book.table[[4, 1, 2]])
    assert codes.tolist() == [1, 1, 2]
    assert margins[:2].tolist() == [0.0, 0.0]
    assert margins[2] > 0


def test_the_straight_through_gradient_is_the_identity_and_the_codebook_gets_none(
    draws: torch.Generator,
) -> None:
    book = spread_out(codebook(start="uniform"))
    latents = {name: z.requires_grad_() for name, z in batch().items()}
    quantized = book.quantize(latents, draws)
    weight = torch.randn(2, TIME, DIM, dtype=torch.float64)
    torch.stack([(vector * weight).sum() for vector in quantized.vectors.values()]).sum().backward()
    for name, z in latents.items():
        assert z.grad is not None
        assert torch.equal(z.grad, weight)
        torch.testing.assert_close(quantized.vectors[name], quantized.rows[name])
        assert not quantized.rows[name].requires_grad
    assert not list(book.parameters())
    assert not any(buffer.requires_grad for buffer in book.buffers())


@pytest.mark.parametrize("choices", [{"start": "uniform"}, PAPER])
def test_distances_are_squared_and_their_gradient_is_that_of_the_codebook_before(
    choices: dict[str, Any], draws: torch.Generator
) -> None:
    book = spread_out(codebook(**choices))
    table, latents = book.table.clone(), {name: z.requires_grad_() for name, z in batch().items()}
    quantized = book.quantize(latents, draws)
    assert quantized.distances is not None
    weight = torch.randn(2, TIME, SIZE, dtype=torch.float64)
    for name, z in latents.items():
        distances = quantized.distances[name]
        gaps = z.detach().unsqueeze(-2) - table
        torch.testing.assert_close(distances.detach(), (gaps**2).sum(-1))
        (distances * weight).sum().backward()
        torch.testing.assert_close(z.grad, 2 * (gaps * weight.unsqueeze(-1)).sum(-2))


def partner(latents: Latents, name: str, clip: int, segment: int, kind: str) -> Tensor:
    """The mean over the other modalities of the aligned vector, or of what is read with attention."""
    z, found = latents[name][clip, segment], []
    for other, vectors in latents.items():
        if other != name and kind == "aligned":
            found.append(vectors[clip, segment])
        elif other != name:
            scores = [math.exp(float((z * key).sum()) / math.sqrt(DIM)) for key in vectors[clip]]
            read = torch.zeros_like(z)
            for score, value in zip(scores, vectors[clip], strict=True):
                read += score / sum(scores) * value
            found.append(read)
    return torch.stack(found).mean(dim=0)


def mixed(latents: Latents, name: str, clip: int, segment: int, kind: str) -> Tensor:
    """Half its own, the other half shared by its partners."""
    own = latents[name][clip, segment]
    if kind == "none" or len(latents) == 1:
        return own
    return own / 2 + partner(latents, name, clip, segment, kind) / 2


def hits_and_sums(table: Tensor, latents: Latents, name: str, kind: str) -> tuple[Tensor, Tensor]:
    """What one modality adds to counts and sums."""
    hits, added = torch.zeros(SIZE, dtype=torch.float64), torch.zeros_like(table)
    for clip, vectors in enumerate(latents[name]):
        for segment, z in enumerate(vectors):
            code = nearest(table, z)
            hits[code] += 1
            added[code] += mixed(latents, name, clip, segment, kind)
    return hits, added


@pytest.mark.parametrize("kind", ["aligned", "attention", "none"])
@pytest.mark.parametrize("names", [NAMES, NAMES[:2], NAMES[:1]])
def test_the_fused_update_equals_a_slow_loop(
    names: tuple[str, ...], kind: str, draws: torch.Generator
) -> None:
    book = spread_out(codebook(start="uniform", reset="none", decay=0.9, partners=kind))
    sums, counts = book.sums.clone(), torch.ones(SIZE, dtype=torch.float64)
    for _ in range(3):
        latents = batch(names=names)
        table = sums / counts[:, None]
        quantized = book.quantize(latents, draws)
        parts = [hits_and_sums(table, latents, name, kind) for name in names]
        for name in names:
            for z, code, row in zip(
                latents[name].flatten(0, 1),
                quantized.codes[name].flatten(),
                quantized.rows[name].flatten(0, 1),
                strict=True,
            ):
                assert int(code) == nearest(table, z)
                torch.testing.assert_close(row, table[code])
        counts = 0.9 * counts + 0.1 * sum(hits for hits, _ in parts)
        sums = 0.9 * sums + 0.1 * sum(added for _, added in parts)
        torch.testing.assert_close(book.sums, sums)
        torch.testing.assert_close(book.counts, counts)
        torch.testing.assert_close(book.table, sums / counts[:, None])


@pytest.mark.parametrize("kind", ["aligned", "attention"])
def test_the_released_update_goes_through_modalities_in_turn(kind: str, draws: torch.Generator) -> None:
    book = spread_out(codebook(**PAPER, reset="none", decay=0.9, partners=kind))
    table, weight, count = book.sums.clone(), book.sums.clone(), torch.zeros(SIZE, dtype=torch.float64)
    for _ in range(3):
        latents, before = batch(), table
        book.quantize(latents, draws)
        for name in NAMES:
            hits, added = hits_and_sums(before, latents, name, kind)
            count = 0.9 * count + 0.1 * hits
            total = float(count.sum())
            count = (count + 1e-5) / (total + SIZE * 1e-5) * total
            weight = 0.9 * weight + 0.1 * added
            table = weight / count[:, None]
        torch.testing.assert_close(book.table, table)
        torch.testing.assert_close(book.counts, count)


def test_counts_of_one_bound_the_first_step_where_counts_of_zero_do_not(draws: torch.Generator) -> None:
    reach = {}
    for update in ("paper", "fused"):
        book = codebook(400, update=update, start="uniform")
        book.quantize(batch(27), draws)
        reach[update] = float(book.table.abs().max())
    assert reach["paper"] > 10
    assert reach["fused"] < 5


def test_only_training_moves_the_codebook(draws: torch.Generator) -> None:
    book = spread_out(codebook()).eval()
    before = {name: buffer.clone() for name, buffer in book.named_buffers()}
    book.quantize(batch(), draws)
    assert all(torch.equal(buffer, before[name]) for name, buffer in book.named_buffers())


def test_k_means_equals_a_slow_loop_and_keeps_the_row_of_an_empty_cluster() -> None:
    vectors = torch.randn(20, DIM, dtype=torch.float64)
    rows = torch.cat([vectors[:3], torch.full((1, DIM), 50.0, dtype=torch.float64)])
    expected = rows.clone()
    for _ in range(4):
        codes = [nearest(expected, z) for z in vectors]
        for k in range(3):
            expected[k] = torch.stack([z for z, c in zip(vectors, codes, strict=True) if c == k]).mean(0)
    refined = refine(rows, vectors, iterations=4)
    torch.testing.assert_close(refined, expected)
    assert torch.equal(refined[3], rows[3])
    assert not torch.allclose(refined[:3], rows[:3])


@pytest.mark.parametrize("update", ["fused", "paper"])
def test_the_first_batch_becomes_the_codebook_once(update: str, draws: torch.Generator) -> None:
    # As many codes as vectors: none is taken twice, and each is the whole of its cluster.
    book, latents = codebook(18, update=update, reset="none").train(), batch()
    vectors = torch.cat([z.flatten(0, 1) for z in latents.values()])
    quantized = book.quantize(latents, draws)
    rows = torch.cat([row.flatten(0, 1) for row in quantized.rows.values()])
    torch.testing.assert_close(rows, vectors)
    assert len(torch.cat([index.flatten() for index in quantized.codes.values()]).unique()) == 18
    assert bool(book.started)
    moved = book.table.clone()
    book.quantize({name: 100 + z for name, z in batch().items()}, draws)
    assert (book.table - moved).norm(dim=1).min() < 5


def test_k_means_lies_closer_to_the_batch_than_rows_drawn_from_it() -> None:
    latents = batch(40)
    vectors = torch.cat([z.flatten(0, 1) for z in latents.values()])

    def spread(table: Tensor) -> float:
        return float(torch.cdist(vectors, table).min(dim=1).values.square().mean())

    drawn = [spread(vectors[torch.randperm(len(vectors))[:SIZE]]) for _ in range(20)]
    for seed in range(3):
        book = codebook(reset="none")
        quantized = book.quantize(latents, torch.Generator().manual_seed(seed))
        started = torch.cat([row.flatten(0, 1) for row in quantized.rows.values()]).unique(dim=0)
        assert spread(started) < min(drawn)


def test_a_start_from_fewer_vectors_than_codes_tells_them_apart(draws: torch.Generator) -> None:
    book, latents = codebook(10, reset="none"), batch(1, NAMES[:1])
    book.quantize(latents, draws)
    assert torch.isfinite(book.table).all()
    assert torch.cdist(book.table, latents["audio"][0]).min(dim=1).values.max() < 0.2
    assert torch.pdist(book.table).min() > 0


def idle_until_dead(book: EMACodebook, draws: torch.Generator) -> tuple[Tensor, Latents]:
    """Feed one vector over and over until all other codes are replaced; returns the codes before, and the feed."""
    latents = same(book.table[2].clone())
    for _ in range(book.config.reset_after):
        book.quantize(latents, draws)
    before = book.table.clone()
    book.quantize(latents, draws)
    return before, latents


@pytest.mark.parametrize("choices", [{}, PAPER])
def test_a_code_replaced_with_its_statistics_survives_the_next_steps(
    choices: dict[str, Any], draws: torch.Generator
) -> None:
    book = spread_out(codebook(reset_after=4, **{"start": "uniform", **choices}))
    book.idle.zero_()
    before, latents = idle_until_dead(book, draws)
    dead = torch.arange(SIZE) != 2
    assert (book.table[dead] - before[dead]).norm(dim=1).min() > 0.1
    replaced = book.table.clone()
    torch.testing.assert_close(replaced[dead], latents["video"][0, :1].expand(SIZE - 1, -1))
    book.quantize({name: z - 50 for name, z in latents.items()}, draws)
    unused = book.idle > 0
    assert unused.sum() >= SIZE - 2
    torch.testing.assert_close(book.table[unused], replaced[unused], rtol=1e-3, atol=1e-3)


def test_dead_codes_become_different_vectors_of_the_batch(draws: torch.Generator) -> None:
    book = spread_out(codebook(start="uniform", reset_after=4))
    for _ in range(4):
        book.quantize(same(book.table[2].clone()), draws)
    near = {name: book.table[2] + 1e-3 * z for name, z in batch().items()}
    book.quantize(near, draws)
    vectors = torch.cat([z.flatten(0, 1) for z in near.values()])
    exact = (torch.cdist(book.table, vectors) < 1e-12).nonzero()
    assert exact[:, 0].tolist() == [0, 1, 3, 4, 5]
    assert len(exact[:, 1].unique()) == SIZE - 1


def test_a_released_reset_is_undone_by_the_next_step(draws: torch.Generator) -> None:
    book = spread_out(codebook(reset="paper", reset_after=120, **PAPER))
    book.idle.zero_()
    before, latents = idle_until_dead(book, draws)
    dead = torch.arange(SIZE) != 2
    # The only active code is the one in use: dead ones are not copied from each other.
    noise = (book.table[dead] - book.table[2]).abs()
    assert 1 / 4096 < noise.max() < 1 / 1024 + 1e-12
    book.quantize({name: z + 1e-9 for name, z in latents.items()}, draws)
    unused = book.idle > 0
    assert unused.sum() >= SIZE - 2
    # Both sums and smoothed counts of an unused code shrink, so it comes back near where it was.
    cosine = torch.nn.functional.cosine_similarity(book.table[unused], before[unused], dim=1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_a_code_is_dead_after_so_many_unused_steps_and_not_before(draws: torch.Generator) -> None:
    for choices, steps in (({"start": "uniform"}, 5), (PAPER, 6)):
        book = spread_out(codebook(reset_after=4, **choices))
        latents, idle = same(book.table[2].clone()), []
        for _ in range(steps):
            book.quantize(latents, draws)
            idle.append(float(book.idle[0]))
        assert idle[-2:] == [4.0, 0.0]


def test_without_a_reset_unused_codes_stay_for_ever() -> None:
    book = spread_out(codebook(start="uniform", reset="none", reset_after=1, decay=0.5)).float()
    before, latents = book.table.clone(), same(book.table[2].clone())
    # Halved 400 times a float32 is zero, and its row not a number.
    for _ in range(400):
        book.quantize(latents, torch.Generator())
    torch.testing.assert_close(book.table, before)
    unused = torch.arange(SIZE) != 2
    assert (book.counts[unused] < 1e-6).all()
    at_rest = book.sums.clone()
    book.quantize(latents, torch.Generator())
    assert torch.equal(book.sums[unused], at_rest[unused])
    fresh = {name: z.float() for name, z in same(before[0].double() + 1e-3).items()}
    book.quantize(fresh, torch.Generator())
    torch.testing.assert_close(book.table[0], before[0] + 1e-3, rtol=0, atol=1e-5)


@pytest.mark.parametrize("choices", [{}, {"size": 40}, {**PAPER, "reset": "paper"}])
def test_every_draw_comes_from_the_given_generator(choices: dict[str, Any]) -> None:
    """Processes whose generators are in one state need no word from each other."""
    steps = [batch() for _ in range(6)]
    tables = []
    for seed in (5, 5, 6):
        torch.manual_seed(1)
        book = spread_out(codebook(**{"reset_after": 1, **choices}))
        state, draws = torch.get_rng_state(), torch.Generator().manual_seed(seed)
        for latents in steps:
            book.quantize(latents, draws)
        assert torch.equal(torch.get_rng_state(), state)
        tables.append(book.table)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_training_keeps_float32_under_autocast() -> None:
    books = [EMACodebook(CodebookConfig(size=64, partners="attention"), 32) for _ in range(2)]
    books[1].load_state_dict(books[0].state_dict())
    latents = {name: 1e-3 * torch.randn(10, 5, 32) for name in NAMES}
    exact = books[0].quantize(latents, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = books[1].quantize(latents, torch.Generator().manual_seed(0))
        assigned = books[1].assign(latents["audio"])
    assert cast.distances is not None
    assert cast.distances["audio"].dtype == torch.float32
    assert all(torch.equal(exact.codes[name], cast.codes[name]) for name in NAMES)
    assert torch.equal(books[0].table, books[1].table)
    for plain, under in zip(books[0].assign(latents["audio"]), assigned, strict=True):
        assert torch.equal(plain, under)


def test_latents_of_bfloat16_are_quantised_by_a_codebook_of_float32(draws: torch.Generator) -> None:
    book = EMACodebook(CodebookConfig(size=8), DIM)
    latents = {name: z.bfloat16().requires_grad_() for name, z in batch().items()}
    quantized = book.quantize(latents, draws)
    assert (
        book.table.dtype == quantized.rows["text"].dtype == quantized.vectors["text"].dtype == torch.float32
    )
    quantized.vectors["text"].sum().backward()
    assert latents["text"].grad is not None
    assert torch.equal(latents["text"].grad, torch.ones_like(latents["text"]))
