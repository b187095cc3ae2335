"""Codes to index at any size: a chain that was fitted to the demo's world, and codes without any order.

`world.safetensors` has the codes that the demo bundle gives 2,400 sounds, 800 pictures and 2,400 captions of the
generated world of seed 5. Clips of `world` are drawn from the first-order chain of the codes that follow each other
there, a third of each modality; queries are the recorded clips.
Clips of `zipf` are ten codes drawn independently, the most frequent of 400 a hundred times as often as the hundredth:
no clip is like another, which is as hard as it gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.index.rows import Rows, joined
from service.index.space import CodeSpace, FlatCodes
from tessera.hub import open_bundle

_FILE = Path(__file__).with_name("world.safetensors")
_BATCH = 200_000


@dataclass(frozen=True)
class BenchWorld:
    """A codebook, clips to index, and pooled embeddings [n, Q] to look for."""

    name: str
    space: CodeSpace
    rows: Rows
    queries: NDArray[np.float64]

    def vectors(self) -> Iterator[NDArray[np.float32]]:
        """The unit embeddings of all clips in their order, for dense indexes, some at a time."""
        starts = np.cumsum(self.rows.widths) - self.rows.widths
        table = self.space.rows.astype(np.float32)
        for first in range(0, len(starts), _BATCH):
            widths = self.rows.widths[first : first + _BATCH]
            total = np.zeros((len(widths), self.space.dim), np.float32)
            for place in range(int(widths.max())):
                some = np.flatnonzero(widths > place)
                total[some] += table[self.rows.codes[starts[first + some] + place]]
            yield total / np.linalg.norm(total, axis=1, keepdims=True)


def make_world(name: str, items: int, seed: int = 0) -> BenchWorld:
    """`world` or `zipf` of so many items; a smaller one is not the beginning of a larger one."""
    rng = np.random.default_rng(seed)
    return _demo(items, rng) if name == "world" else _zipf(items, rng)


def _demo(items: int, rng: np.random.Generator) -> BenchWorld:
    space = CodeSpace(open_bundle(None).codebook)
    kept = load_file(_FILE)
    texts = np.split(kept["text"], np.cumsum(kept["text_lengths"])[:-1])
    recorded = ([*kept["audio"]], [*kept["video"]], texts)
    parts = []
    for number, clips in enumerate(recorded):
        count = (items + 2 - number) // 3
        recorded_lengths = np.array([len(clip) for clip in clips])
        lengths = rng.choice(recorded_lengths, count)
        parts += [
            _rows(space, codes, number) for codes in _chain(clips, space.size, lengths, rng) if len(codes)
        ]
    queries = [space.embedding(clip.astype(np.uint16)) for clips in recorded for clip in clips[:400]]
    return _world("world", space, parts, np.array(queries)[rng.permutation(len(queries))])


def _zipf(items: int, rng: np.random.Generator) -> BenchWorld:
    space = CodeSpace([rng.standard_normal((400, 64))])
    share = 1.0 / np.arange(1, 401)
    share /= share.sum()

    def draw(count: int) -> FlatCodes:
        return rng.choice(400, size=(count, 10), p=share).astype(np.uint16)

    parts = [
        _rows(space, draw(min(_BATCH, items - first)), first // _BATCH % 3)
        for first in range(0, items, _BATCH)
    ]
    return _world("zipf", space, parts, np.array([space.embedding(clip) for clip in draw(400)]))


def _world(name: str, space: CodeSpace, parts: Sequence[Rows], queries: NDArray[np.float64]) -> BenchWorld:
    rows = joined(parts)
    order = np.arange(len(rows.keys))
    return BenchWorld(name, space, rows._replace(keys=order + 1, ranks=order.astype(np.uint32)), queries)


def _rows(space: CodeSpace, codes: FlatCodes, modality: int) -> Rows:
    count, width = codes.shape
    return Rows(
        np.zeros(count, np.int64),
        np.zeros(count, np.uint32),
        np.full(count, modality, np.uint8),
        space.weights(codes),
        np.full(count, width),
        codes.ravel(),
    )


def _chain(
    clips: Sequence[NDArray[np.uint8]], size: int, lengths: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[FlatCodes]:
    """Clips of these lengths, all of one length together."""
    begins, follows = np.zeros(size), np.zeros((size, size))
    for clip in clips:
        begins[clip[0]] += 1
        np.add.at(follows, (clip[:-1], clip[1:]), 1)
    follows[follows.sum(axis=1) == 0] = begins
    steps = np.cumsum(follows / follows.sum(axis=1, keepdims=True), axis=1)
    # One sorted list of all rows of the chain: code c is where c, c + 1, ... begin.
    ladder = (steps + np.arange(size)[:, None]).ravel()
    for length in np.unique(lengths):
        count = int((lengths == length).sum())
        codes = np.empty((count, int(length)), np.uint16)
        codes[:, 0] = np.searchsorted(np.cumsum(begins / begins.sum()), rng.random(count) * 0.999999)
        for place in range(1, int(length)):
            before = codes[:, place - 1].astype(np.int64)
            found = np.searchsorted(ladder, before + rng.random(count) * 0.999999, side="right")
            codes[:, place] = np.clip(found - before * size, 0, size - 1)
        yield codes
