"""The EMA codebook against slow loops: assignment, both updates, both resets, the start, and two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.config import CodebookConfig
from training.quantizers.ema import EMACodebook

SIZE, DIM = 6, 4
PAPER: dict[str, Any] = {"update": "paper", "start": "uniform"}
NAMES = ("video", "audio", "text")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def codebook(size: int = SIZE, dim: int = DIM, **settings: Any) -> EMACodebook:
    return EMACodebook(CodebookConfig(size=size, **settings), dim).double()


def spread_out(book: EMACodebook) -> EMACodebook:
    """Codes far enough apart to be hit; uniform starts are tiny."""
    book.sums.copy_(torch.randn_like(book.sums))
    if book.config.update == "paper":
        book.paper_table.copy_(book.sums)
    return book


def batch(positions: int = 5, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    return {name: torch.randn(positions, DIM, dtype=torch.float64) for name in names}


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
    book = spread_out(codebook())
    book.sums[4] = book.sums[1]
    codes, margins = book.assign(book.table[[4, 1, 2]])
    assert codes.tolist() == [1, 1, 2]
    assert margins[:2].tolist() == [0.0, 0.0]
    assert margins[2] > 0


def test_the_straight_through_gradient_is_the_identity_and_the_codebook_gets_none() -> None:
    book = spread_out(codebook(start="uniform"))
    latents = {name: z.requires_grad_() for name, z in batch().items()}
    quantized = book.quantize(latents)
    weight = torch.randn(5, DIM, dtype=torch.float64)
    sum((vector * weight).sum() for vector in quantized.vectors.values()).backward()  # type: ignore[union-attr]
    for name, z in latents.items():
        assert z.grad is not None
        assert torch.equal(z.grad, weight)
        torch.testing.assert_close(quantized.vectors[name], quantized.rows[name])
    assert not list(book.parameters())
    assert not any(buffer.requires_grad for buffer in book.buffers())


@pytest.mark.parametrize("names", [NAMES, NAMES[:2], NAMES[:1]])
def test_the_fused_update_equals_a_slow_loop(names: tuple[str, ...]) -> None:
    book = spread_out(codebook(start="uniform", reset="off", decay=0.9))
    sums, counts = book.sums.clone(), torch.ones(SIZE, dtype=torch.float64)
    for _ in range(3):
        latents = batch(names=names)
        table = sums / counts[:, None]
        quantized = book.quantize(latents)
        added, hits = torch.zeros_like(sums), torch.zeros_like(counts)
        for name in names:
            for position, z in enumerate(latents[name]):
                code = nearest(table, z)
                assert int(quantized.codes[name][position]) == code
                torch.testing.assert_close(quantized.rows[name][position], table[code])
                added[code] += mixed(latents, name, position)
                hits[code] += 1
        sums, counts = 0.9 * sums + 0.1 * added, 0.9 * counts + 0.1 * hits
        torch.testing.assert_close(book.sums, sums)
        torch.testing.assert_close(book.counts, counts)
        torch.testing.assert_close(book.table, sums / counts[:, None])


def mixed(latents: dict[str, Tensor], name: str, position: int) -> Tensor:
    """Half its own, the other half shared by its partners at the same position."""
    partners = [z[position] for other, z in latents.items() if other != name]
    if not partners:
        return latents[name][position]
    result = latents[name][position] / 2
    for partner in partners:
        result = result + partner / (2 * len(partners))
    return result


def test_the_released_update_goes_through_modalities_in_turn() -> None:
    book = spread_out(codebook(**PAPER, reset="off", decay=0.9))
    table, weight, count = book.sums.clone(), book.sums.clone(), torch.zeros(SIZE, dtype=torch.float64)
    for _ in range(3):
        latents, before = batch(), table
        book.quantize(latents)
        for name in NAMES:
            hits, added = torch.zeros_like(count), torch.zeros_like(weight)
            for position, z in enumerate(latents[name]):
                code = nearest(before, z)
                hits[code] += 1
                added[code] += mixed(latents, name, position)
            count = 0.9 * count + 0.1 * hits
            total = float(count.sum())
            count = (count + 1e-5) / (total + SIZE * 1e-5) * total
            weight = 0.9 * weight + 0.1 * added
            table = weight / count[:, None]
        torch.testing.assert_close(book.table, table)
        torch.testing.assert_close(book.counts, count)


def test_counts_of_one_bound_the_first_step_where_counts_of_zero_do_not() -> None:
    reach = {}
    for update in ("paper", "fused"):
        book = codebook(400, update=update, start="uniform")
        book.quantize(batch(80))
        reach[update] = float(book.table.abs().max())
    assert reach["paper"] > 10
    assert reach["fused"] < 5


def test_only_training_moves_the_codebook() -> None:
    book = spread_out(codebook()).eval()
    before = {name: buffer.clone() for name, buffer in book.named_buffers()}
    book.quantize(batch())
    assert all(torch.equal(buffer, before[name]) for name, buffer in book.named_buffers())


@pytest.mark.parametrize("update", ["fused", "paper"])
def test_the_first_batch_becomes_the_codebook_once(update: str) -> None:
    book = codebook(update=update, reset="off")
    latents = batch(30)
    vectors = torch.cat([*latents.values()])
    quantized = book.quantize(latents)
    rows = torch.cat([*quantized.rows.values()]).unique(dim=0)
    assert len(rows) == SIZE
    assert (torch.cdist(rows, vectors).min(dim=1).values < 0.1).all()
    assert bool(book.started)
    moved = book.table.clone()
    book.quantize({name: 100 + z for name, z in batch(30).items()})
    assert (book.table - moved).norm(dim=1).min() < 5


def idle_until_dead(book: EMACodebook) -> tuple[Tensor, dict[str, Tensor]]:
    """Feed one vector over and over until all other codes are replaced; returns the codes before, and the feed."""
    latents = {name: book.table[2].repeat(3, 1).clone() for name in NAMES}
    for _ in range(book.config.reset_after):
        book.quantize(latents)
    before = book.table.clone()
    book.quantize(latents)
    return before, latents


@pytest.mark.parametrize("choices", [{}, PAPER])
def test_a_code_replaced_with_its_statistics_survives_the_next_steps(choices: dict[str, Any]) -> None:
    book = spread_out(codebook(reset_after=4, **{"start": "uniform", **choices}))
    book.idle.zero_()
    before, latents = idle_until_dead(book)
    dead = torch.arange(SIZE) != 2
    assert (book.table[dead] - before[dead]).norm(dim=1).min() > 0.1
    replaced = book.table.clone()
    torch.testing.assert_close(replaced[dead], latents["video"][:1].expand(SIZE - 1, -1))
    book.quantize({name: z - 50 for name, z in latents.items()})
    unused = book.idle > 0
    assert unused.sum() >= SIZE - 2
    torch.testing.assert_close(book.table[unused], replaced[unused], rtol=1e-3, atol=1e-3)


def test_a_released_reset_is_undone_by_the_next_step() -> None:
    book = spread_out(codebook(reset="paper", reset_after=120, **PAPER))
    book.idle.zero_()
    before, latents = idle_until_dead(book)
    dead = torch.arange(SIZE) != 2
    # The only active code is the one in use: dead ones are not copied from each other.
    assert (book.table[dead] - book.table[2]).abs().max() < 1 / 1024 + 1e-12
    book.quantize({name: z + 1e-9 for name, z in latents.items()})
    unused = book.idle > 0
    assert unused.sum() >= SIZE - 2
    # Both sums and smoothed counts of an unused code shrink, so it comes back near where it was.
    cosine = torch.nn.functional.cosine_similarity(book.table[unused], before[unused], dim=1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_a_code_is_dead_after_so_many_unused_steps_and_not_before() -> None:
    for choices, steps in (({"start": "uniform"}, 5), (PAPER, 6)):
        book = spread_out(codebook(reset_after=4, **choices))
        latents = {name: book.table[2].repeat(3, 1).clone() for name in NAMES}
        idle = []
        for _ in range(steps):
            book.quantize(latents)
            idle.append(float(book.idle[0]))
        assert idle[-2:] == [4.0, 0.0]


def test_without_a_reset_unused_codes_stay() -> None:
    book = spread_out(codebook(start="uniform", reset="off", reset_after=1))
    before, _ = idle_until_dead(book)
    torch.testing.assert_close(book.table, before)


def test_usage_is_counted_by_modality() -> None:
    book = codebook(4)
    usage = book.usage({"audio": torch.tensor([0, 1, 2, 3]), "video": torch.tensor([[1], [1], [1], [1]])})
    assert usage["perplexity_audio"] == pytest.approx(4)
    assert usage["perplexity_video"] == pytest.approx(1)
    assert usage["used"] == usage["used_audio"] == 1
    assert usage["used_video"] == 0.25
    assert 1 < usage["perplexity"] < 4


def test_training_keeps_float32_under_autocast() -> None:
    books = [EMACodebook(CodebookConfig(size=64, start="uniform"), 32) for _ in range(2)]
    books[1].load_state_dict(books[0].state_dict())
    latents = {name: 1e-3 * torch.randn(50, 32) for name in NAMES}
    exact = books[0].quantize(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = books[1].quantize(latents)
        assert cast.distances["audio"].dtype == torch.float32
    assert all(torch.equal(exact.codes[name], cast.codes[name]) for name in NAMES)
    assert torch.equal(books[0].table, books[1].table)


def _half(rank: int, folder: str) -> None:
    """One of two processes: update on half of the batch and leave the codebook behind."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    saved = torch.load(f"{folder}/start.pt", weights_only=True)
    book = codebook(start="uniform")
    book.load_state_dict(saved["book"])
    for step in saved["steps"]:
        book.quantize({name: z.chunk(2)[rank] for name, z in step.items()})
    torch.save(book.state_dict(), f"{folder}/end-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_on_halves_of_a_batch_move_the_codebook_as_one(tmp_path: Path) -> None:
    book = spread_out(codebook(start="uniform"))
    steps = [batch(6) for _ in range(3)]
    torch.save({"book": book.state_dict(), "steps": steps}, tmp_path / "start.pt")
    torch.multiprocessing.spawn(_half, args=(str(tmp_path),), nprocs=2)
    for latents in steps:
        book.quantize(latents)
    for rank in range(2):
        ended = torch.load(tmp_path / f"end-{rank}.pt", weights_only=True)
        for name, buffer in book.state_dict().items():
            torch.testing.assert_close(ended[name], buffer)
