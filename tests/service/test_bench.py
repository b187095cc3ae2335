"""`tessera bench serve`, `graphs`, `overload` and `soak`: real graphs, real servers, complete documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bench.cache import run_cache_bench
from service.bench.cases import feature_cases, has_codes
from service.bench.core import core_rate
from service.bench.graphs import run_graphs_bench
from service.bench.graphs_of_cost import write_bundle, write_deep_bundle
from service.bench.memory import floor, slope_per_hour
from service.bench.overload import Overload, run_overload
from service.bench.report import Wanted, run_bench
from service.bench.soak import run_soak
from service.bench.sweep import SHARES
from tessera.bundle import DEMO, Bundle
from tessera.errors import TesseraError
from tessera.tokenizer import Tokenizer
from tessera.verification import verify_bundle

PERCENTILES = {"p50", "p90", "p99", "p99.9", "max"}


def published(out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The document of a bench, which is printed as it is written."""
    document: dict[str, Any] = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == document
    return document


def test_the_bench_measures_each_case_bare_in_process_and_over_http(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "results" / "serve.json", tmp_path / "pictures" / "serve.png"
    run_bench(str(DEMO), Wanted(0.1, ("audio", "text", "of 0 ms")), out=out, plot=plot)
    report = published(out, capsys)
    figures = {figure["case"]: figure for figure in report["figures"]}
    features = {
        f"{modality} features, {form}" for modality in ("audio", "text") for form in ("base64", "raw")
    }
    assert {"audio", "text", "graph of 0 ms, raw"} | features <= figures.keys()
    for name, figure in figures.items():
        sizes = [1] if name == "audio" else [1, 32]
        assert figure["bare"]["items_per_second"] > 0
        for part in ("in_process", "http"):
            assert [row["items_per_request"] for row in figure[part]] == sizes
            assert all(row["items_per_second"] > 0 and row["efficiency"] > 0 for row in figure[part])
        for row in figure["http"]:
            assert row["latency_ms"].keys() == PERCENTILES
            assert row["stages_us_per_item"].keys() >= {"decode", "queue", "infer", "encode"}
        assert figure["alone"].keys() == {"p50_ms", "p99_ms", "bare_ms", "added_ms"}
    assert [point["share"] for point in report["latency_by_load"]["points"]] == list(SHARES)
    assert report["latency_by_load"]["latency_ms_at_70%"].keys() == PERCENTILES
    assert report["start_to_ready_seconds"].keys() == {"cold", "warm"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_case_that_there_is_not_is_an_error() -> None:
    with pytest.raises(TesseraError, match="no such case"):
        run_bench(str(DEMO), Wanted(0.1, ("smells",)), out=None, plot=None)


def test_what_is_known_is_measured_against_what_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cache.json"
    run_cache_bench(str(DEMO), seconds=0.3, out=out)
    figures = {figure["case"]: figure for figure in published(out, capsys)["figures"]}
    assert figures.keys() == {"audio", "video", "text"}
    assert all(figure["hits_per_second"] > 0 and figure["ratio"] > 0 for figure in figures.values())


def test_overload_tells_admitted_from_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "overload.json", tmp_path / "overload.png"
    run_overload(str(DEMO), Overload(1.0, 3.0, 2000), out=out, plot=plot)
    report = published(out, capsys)
    (figure,) = report["figures"]
    assert figure["requests"] == figure["admitted"] + figure["refused"]
    assert figure["requests"] == round(3.0 * report["capacity_requests_per_second"])
    assert figure["refused_without_retry_after"] == 0
    assert figure["wrong"] == 0
    assert report["memory"]["most_mb"] >= report["memory"]["first_mb"] > 0
    assert plot.exists()


def test_a_soak_asks_for_every_modality_in_many_shapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "soak.json", tmp_path / "soak.png"
    run_soak(str(DEMO), minutes=0.05, share=0.5, out=out, plot=plot)
    report = published(out, capsys)
    (figure,) = report["figures"]
    assert report["different_requests"] == 60
    assert figure["statuses"].keys() == {"200"}
    assert figure["wrong"] == 0
    assert {"slope_mb_per_hour", "slope_error_mb_per_hour"} <= report["memory"].keys()
    assert plot.exists()


@pytest.mark.parametrize("depth", [0, 3])
def test_a_bundle_of_any_cost_is_whole_and_runs(depth: int, tmp_path: Path) -> None:
    bundle = Bundle.load(write_deep_bundle(tmp_path / "bundle", depth, "made"))
    assert verify_bundle(bundle).keys() == {"audio"}
    again = Bundle.load(write_deep_bundle(tmp_path / "again", depth, "made"))
    assert again.revision == bundle.revision


def test_what_costs_more_is_deeper(tmp_path: Path) -> None:
    nodes = []
    for item_ms in (0.0, 0.02, 5.0):
        bundle = Bundle.load(write_bundle(tmp_path / str(item_ms), item_ms))
        nodes.append(bundle.graph("audio.codes").count(b"MatMul"))
    assert nodes[0] == 0
    assert nodes[0] < nodes[1] < nodes[2]


def test_the_clips_of_a_case_are_told_apart_by_their_codes(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_deep_bundle(tmp_path, 2, "made"))
    for case in feature_cases(tokenizer, "audio", "made"):
        codes = [clip.codes for clip in case.clips]
        assert all(codes.count(one) == 1 for one in codes)
        assert core_rate(case, 1, 0.1).items > 0


def test_an_answer_with_codes_of_another_clip_is_wrong() -> None:
    body = json.dumps({"data": [{"codes": [[1], [2]]}, {"codes": [[3]]}]}).encode()
    assert has_codes(body, [[[1], [2]], [[3]]])
    assert not has_codes(body, [[[3]], [[1], [2]]])
    for other in (b"", b"{}", b"[]", b'{"data": [1]}'):
        assert not has_codes(other, [[[1]]])


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.floats(0, 1e4)),
        min_size=3,
        max_size=50,
        unique_by=lambda sample: sample[0],
    )
)
def test_the_slope_is_that_of_the_least_squares_line(samples: list[tuple[int, float]]) -> None:
    seconds, values = np.array(samples, float).T
    slope, error = slope_per_hour([(float(second), value) for second, value in samples])
    expected = np.linalg.lstsq(
        np.stack([seconds - seconds.mean(), np.ones(len(seconds))], axis=1), values, None
    )
    assert slope == pytest.approx(3600 * expected[0][0], rel=1e-6, abs=1e-6 * (1 + np.abs(values).max()))
    assert error >= 0
    assert slope_per_hour([(0.0, 1.0), (1.0, 2.0)]) == (0.0, 0.0)


def test_bundles_are_measured_side_by_side(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_graphs_bench([str(DEMO), str(bundle_dir)], seconds=0.1, out=tmp_path / "graphs.json")
    report = json.loads(capsys.readouterr().out)
    rows = {(figure["modality"], figure["bundle"]): figure for figure in report["figures"]}
    assert set(rows) == {(m, b) for m in ("audio", "video", "text") for b in (str(DEMO), str(bundle_dir))}
    for (modality, bundle), figure in rows.items():
        assert figure["codes_mb"] == round((Path(bundle) / f"{modality}.codes.onnx").stat().st_size / 1e6, 2)
        assert figure["agreement"] > 0.99
        assert figure["segments_per_second"] > 0
        assert (figure["ratio"] == 1) or bundle != str(DEMO)


def test_what_requests_hold_for_a_moment_is_no_growth() -> None:
    samples = [(second / 2, 100.0 + (900.0 if second % 7 else 0.0) + second / 100) for second in range(600)]
    lowest = floor(samples)
    assert len(lowest) == 10
    slope, _ = slope_per_hour(lowest)
    assert slope == pytest.approx(3600 * 2 / 100, rel=0.02)
