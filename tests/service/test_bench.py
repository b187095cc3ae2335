"""`tessera bench serve` and `graphs`: every case is measured, against real graphs and a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.bench.graphs import run_graphs_bench
from service.bench.report import run_bench
from tessera.bundle import DEMO


def test_the_bench_measures_every_modality_bare_and_served(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "serve.json"
    run_bench(str(bundle_dir), seconds=0.1, clients=2, out=out)
    report = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text()) == report
    cases = {(figure["case"], figure["items_per_request"]) for figure in report["figures"]}
    features = {
        (f"{modality} features", items) for modality in ("audio", "video", "text") for items in (1, 32)
    }
    assert cases == features | {("audio", 1), ("video", 1), ("text", 1), ("text", 32)}
    for figure in report["figures"]:
        bare, served = figure["bare_windows_per_second"], figure["served_windows_per_second"]
        assert figure["efficiency"] == pytest.approx(served / bare, rel=0.05, abs=0.01)
        assert served > 0
        assert 0 <= figure["decode_share"] < 1


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
