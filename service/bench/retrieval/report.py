"""The code index against dense ones, at several sizes, as JSON, a table and a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from service.bench.document import publish
from service.bench.plots import plot_retrieval
from service.bench.retrieval.measure import TOP, measure
from service.bench.retrieval.peers import Peer, faiss_index, numpy_flat
from service.bench.retrieval.worlds import BenchWorld, make_world
from service.index import bitmaps, kernels
from service.index.code_index import CodeIndex
from service.index.query import PooledQuery, SegmentQuery
from service.index.snapshot import Snapshot
from tessera.errors import TesseraError

_SPAN = 3
_SHARE = 16
_FEW = 0.01
"""Share of the items that a narrow filter allows."""

_CHECKED = 32
_TOLERANCE = 1e-5


def run_index_bench(
    sizes: Sequence[int],
    worlds: Sequence[str],
    *,
    seconds: float,
    threads: int,
    hnsw: bool,
    out: Path | None,
    plot: Path | None,
) -> None:
    """Measure every world at every size, each figure for `seconds`, print, and write.

    Raises:
        TesseraError: the code index and a dense one disagree.
    """
    figures = [
        figure
        for name in worlds
        for items in sizes
        for figure in _figures(make_world(name, items), seconds, threads, hnsw)
    ]
    facts = {"seconds_per_figure": seconds, "threads": threads, "compiled": kernels.COMPILED}
    publish("index", facts, figures, _table(figures), out)
    if plot is not None:
        plot_retrieval(figures, plot)


def _figures(world: BenchWorld, seconds: float, threads: int, hnsw: bool) -> list[dict[str, Any]]:
    base = {"world": world.name, "items": len(world.rows.keys)}
    index = CodeIndex(world.space)
    index.load(make_world(world.name, 1000).rows, 0)  # compiles the kernels, if that was not done before
    started = time.perf_counter()
    index.load(world.rows, 1)
    build_seconds = time.perf_counter() - started
    snapshot = index.snapshot
    entries = sum(len(held.part.weights) for held in snapshot.held)
    facts = {
        "build_seconds": round(build_seconds, 2),
        "bytes_per_item": round(snapshot.nbytes / snapshot.count, 1),
        "distinct_share": round(entries / snapshot.count, 3),
    }
    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    pooled = partial(_search, world, snapshot, pool, None)
    figures: list[dict[str, Any]] = [
        base | facts | {"index": "codes, pooled"} | measure(pooled, world.queries, seconds)
    ]
    segments = partial(_search, world, snapshot, pool, None, span=_SPAN)
    figures.append(base | facts | {"index": "codes, segments"} | measure(segments, world.queries, seconds))
    allowed = np.random.default_rng(0).random(snapshot.count) < _FEW
    narrow = partial(_search, world, snapshot, pool, bitmaps.packed(allowed))
    figures.append(base | facts | {"index": "codes, 1 % allowed"} | measure(narrow, world.queries, seconds))
    faiss = [partial(faiss_index, description=d, threads=threads) for d in ("Flat", "HNSW16")[: 1 + hnsw]]
    peers: list[Callable[[BenchWorld], Peer]] = [*faiss] if find_spec("faiss") else [numpy_flat]
    best = pooled(world.queries[:_CHECKED])
    for make in peers:
        peer = make(world)
        found = peer.search(world.queries[:_CHECKED])
        if "HNSW" not in peer.name and np.abs(found - best).max() > _TOLERANCE:
            raise TesseraError(f"{peer.name} and the code index disagree")
        recall = float((found >= best[:, -1:] - _TOLERANCE).mean())
        row = {
            "index": peer.name,
            "build_seconds": round(peer.build_seconds, 2),
            "bytes_per_item": round(peer.bytes_per_item, 1),
            "recall": round(recall, 4),
        }
        figures.append(base | row | measure(peer.search, world.queries, seconds))
    return [figure | {"ratio": round(figure["p50_ms"] / figures[0]["p50_ms"], 1)} for figure in figures]


def _search(
    world: BenchWorld,
    snapshot: Snapshot,
    pool: ThreadPoolExecutor | None,
    allowed: bitmaps.Bitmap | None,
    vectors: NDArray[np.float64],
    span: int | None = None,
) -> NDArray[np.float32]:
    """The best scores [n, TOP]."""

    queries: list[PooledQuery | SegmentQuery] = [
        PooledQuery.of(world.space, vector) if span is None else SegmentQuery.of(world.space, vector, span)
        for vector in vectors
    ]
    if len(queries) == 1:
        found = [snapshot.search(queries[0], TOP, _no_names, mask_of=lambda _: allowed, pool=pool)]
    else:
        many = partial(snapshot.search_many, count=TOP, names=_no_names, mask_of=lambda _: allowed)
        shares = [queries[first : first + _SHARE] for first in range(0, len(queries), _SHARE)]
        found = [matches for share in (pool.map if pool else map)(many, shares) for matches in share]
    return np.array([[match.score for match in matches] for matches in found], np.float32)


def _no_names(_: Sequence[int]) -> dict[int, str]:
    return {}


def _table(figures: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="retrieval, top 10")
    heads = (
        "world",
        "items",
        "index",
        "build s",
        "bytes/item",
        "p50 ms",
        "p99 ms",
        "queries/s",
        "by 32",
        "x",
    )
    for head in heads:
        table.add_column(head, justify="left" if head in ("world", "index") else "right")
    for row in figures:
        table.add_row(
            row["world"],
            f"{row['items']:,}",
            row["index"],
            f"{row['build_seconds']:.1f}",
            f"{row['bytes_per_item']:.0f}",
            f"{row['p50_ms']:.3f}",
            f"{row['p99_ms']:.3f}",
            f"{row['queries_per_second']:,.0f}",
            f"{row['batch_queries_per_second']:,.0f}",
            f"{row['ratio']:.1f}",
        )
    return table
