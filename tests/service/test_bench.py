"""`tessera bench serve`: every case is measured, against real graphs and a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.bench.report import run_bench


def test_the_bench_measures_every_modality_bare_and_served(
    bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "serve.json"
    run_bench(bundle_dir, seconds=0.1, clients=2, out=out)
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
