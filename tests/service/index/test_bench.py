"""`tessera bench index` at a small size: figures of every index, and answers that agree."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from service.bench.retrieval.report import run_index_bench
from service.bench.retrieval.worlds import make_world


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bench_has_figures_of_every_index(tmp_path: Path, threads: int) -> None:
    out, plot = tmp_path / "index.json", tmp_path / "index.png"
    run_index_bench([1500], ["world", "zipf"], seconds=0.01, threads=threads, hnsw=False, out=out, plot=plot)
    figures = orjson.loads(out.read_bytes())["figures"]
    assert {row["world"] for row in figures} == {"world", "zipf"}
    assert [row["index"] for row in figures][:3] == ["codes, pooled", "codes, segments", "codes, 1 % allowed"]
    assert any("lat" in row["index"] for row in figures)
    assert all(row["p99_ms"] >= row["p50_ms"] > 0 for row in figures)
    assert plot.stat().st_size > 1000


@pytest.mark.parametrize("name", ["world", "zipf"])
def test_worlds_have_what_was_asked_for(name: str) -> None:
    world = make_world(name, 1_000)
    assert len(world.rows.keys) == 1_000
    assert int(world.rows.widths.sum()) == len(world.rows.codes)
    assert (world.rows.codes < world.space.size).all()
    assert sum(len(vectors) for vectors in world.vectors()) == 1_000
