"""Dense indexes of the same embeddings: those of faiss, and numpy where it is not installed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bench.retrieval.measure import TOP, Search
from service.bench.retrieval.worlds import BenchWorld


class Peer:
    """A dense index: how it searches, how long it took to build, and what an item takes."""

    def __init__(self, name: str, search: Search, build_seconds: float, bytes_per_item: float) -> None:
        self.name = name
        self.search = search
        self.build_seconds = build_seconds
        self.bytes_per_item = bytes_per_item


def numpy_flat(world: BenchWorld) -> Peer:
    """One matrix product and a partition, on as many threads as numpy takes."""
    started = time.perf_counter()
    matrix = np.concatenate(list(world.vectors()))

    def search(queries: NDArray[np.float64]) -> NDArray[np.float32]:
        units = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        scores = units @ matrix.T
        return -np.sort(-np.partition(scores, -TOP, axis=1)[:, -TOP:], axis=1)

    return Peer("numpy flat", search, time.perf_counter() - started, 4.0 * world.space.dim)


def faiss_index(world: BenchWorld, description: str, threads: int) -> Peer:
    """An index of faiss that answers by inner product, such as `Flat` or `HNSW16`."""
    import faiss

    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    index: Any = faiss.index_factory(world.space.dim, description, faiss.METRIC_INNER_PRODUCT)
    for vectors in world.vectors():
        index.add(vectors)
    seconds = time.perf_counter() - started
    if description.startswith("HNSW"):
        faiss.ParameterSpace().set_index_parameter(index, "efSearch", 128)

    def search(queries: NDArray[np.float64]) -> NDArray[np.float32]:
        units = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        faiss.omp_set_num_threads(threads)
        scores: NDArray[np.float32] = index.search(units, TOP)[0]
        return scores

    size: Any = faiss.serialize_index(index).nbytes if len(world.rows.keys) <= 1_000_000 else 0
    return Peer(f"faiss {description}", search, seconds, size / len(world.rows.keys) or 4.0 * world.space.dim)
