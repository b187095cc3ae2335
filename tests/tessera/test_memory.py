"""How much memory a graph takes is measured in a process of its own, which may not come to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.card import model_card
from tessera.bundle import DEMO, Bundle
from tessera.memory import peak_memory_mb

GRAPH = Bundle.load(DEMO).manifest.graphs["audio.codes"]


def test_a_graph_takes_some_memory() -> None:
    peak = peak_memory_mb(DEMO / GRAPH.file, GRAPH.inputs)
    assert peak is not None
    assert 1 < peak < 1_000


def test_a_process_that_dies_or_takes_too_long_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.onnx").write_bytes(b"no graph")
    assert peak_memory_mb(tmp_path / "none.onnx", GRAPH.inputs) is None
    monkeypatch.setattr("tessera.memory._TIMEOUT_SEC", 0.001)
    assert peak_memory_mb(DEMO / GRAPH.file, GRAPH.inputs) is None


def test_the_card_says_what_was_not_measured() -> None:
    """Of one graph is not of both."""
    manifest = Bundle.load(DEMO).manifest
    half = {
        m: report.model_copy(update={"peak_memory_mb": {f"{m}.codes": 9.0}})
        for m, report in manifest.parity.items()
    }
    assert model_card(manifest.model_copy(update={"parity": half})).count("not measured") == 3
