"""Random codebooks and clips for the tests of an index, and what is true of them in dense float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.index.items import Item
from service.index.rows import Rows
from service.index.space import CodeSpace
from tessera.codes import Codes
from tessera.windows import MODALITIES

Clip = NDArray[np.int64]


@dataclass(frozen=True)
class CodeWorld:
    """A codebook, and the dense arithmetic that retrieval must agree with."""

    tables: tuple[NDArray[np.float64], ...]
    depth: int

    @property
    def space(self) -> CodeSpace:
        return CodeSpace(self.tables, self.depth)

    @property
    def dim(self) -> int:
        return sum(table.shape[1] for table in self.tables[:: self.depth])

    def embeddings(self, clip: Clip) -> NDArray[np.float64]:
        """As `ClipOpener.detokenize`, [N, Q]."""
        rows = [table[clip[:, level]] for level, table in enumerate(self.tables)]
        starts = range(0, len(rows), self.depth)
        return np.concatenate([np.sum(rows[i : i + self.depth], axis=0) for i in starts], axis=1)

    def pooled(self, clip: Clip, query: NDArray[np.float64]) -> float:
        return cosine(self.embeddings(clip).mean(axis=0), query)

    def segments(self, clip: Clip, query: NDArray[np.float64], span: int) -> tuple[float, list[float]]:
        """The score, and that of each stretch."""
        likenesses = [cosine(row, query) for row in self.embeddings(clip)]
        taken = min(span, len(clip))
        stretches = [float(np.mean(likenesses[i : i + taken])) for i in range(len(clip) - taken + 1)]
        return max(stretches), stretches

    def is_steady(self, clip: Clip) -> bool:
        """Whether the mean embedding is at least a hundredth of the longest row: 1e-5 is promised of those."""
        longest = max(np.linalg.norm(table, axis=1).max() for table in self.tables)
        return bool(np.linalg.norm(self.embeddings(clip).mean(axis=0)) >= 0.01 * longest)


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / lengths) if lengths > 0 else 0.0


@st.composite
def code_worlds(draw: st.DrawFn) -> CodeWorld:
    levels, depth = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1), (3, 3)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dim = draw(st.integers(1, 6))
    tables = tuple(rng.normal(size=(draw(st.integers(1, 9)), dim)) for _ in range(levels))
    if draw(st.booleans()):  # equal and opposite rows: ties, and sums of no length
        tables = tuple(np.round(table) for table in tables)
    return CodeWorld(tables, depth)


@st.composite
def clips(draw: st.DrawFn, world: CodeWorld, count: int) -> list[Clip]:
    """Ragged ones with repetitions, as events last, and many that are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    longest = draw(st.sampled_from([2, 10, 40]))
    made: list[Clip] = []
    for _ in range(count):
        if made and rng.random() < 0.3:
            made.append(made[rng.integers(len(made))])
            continue
        runs = rng.integers(1, 6, size=rng.integers(1, longest + 1))
        columns = [rng.integers(0, len(table), len(runs)) for table in world.tables]
        made.append(np.repeat(np.stack(columns, axis=1), runs, axis=0)[: int(rng.integers(1, longest + 1))])
    return made


def codes(clip: Clip, modality: int = 0) -> Codes:
    return Codes(modality=MODALITIES[modality], codes=clip, duration_sec=float(len(clip)), hop_sec=1.0)


def item(id: str, clip: Clip, modality: int = 0, **metadata: object) -> Item:
    return Item(id=id, codes=codes(clip, modality), metadata=metadata)


def rows(space: CodeSpace, made: Sequence[Clip], ranks: NDArray[np.integer] | None = None) -> Rows:
    """Items of keys 1, 2, ...; ranks as the keys, or as given."""
    flat = [space.flat(clip) for clip in made]
    order = np.arange(len(made)) if ranks is None else ranks
    return Rows(
        np.arange(1, len(made) + 1),
        order.astype(np.uint32),
        (np.arange(len(made)) % 3).astype(np.uint8),
        np.concatenate([space.weights(row[None]) for row in flat]),
        np.array([len(row) for row in flat]),
        np.concatenate(flat),
    )
