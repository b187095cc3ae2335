"""Bundles side by side: the bytes of their graphs, how often codes are the model's, and segments a second, bare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from service.bench.bare import best_rate
from service.bench.cases import feature_windows
from service.bench.document import publish
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality

ROUNDS = 5
"""The bundles take turns, so that a busy moment of the machine is one of all."""


def run_graphs_bench(bundles: Sequence[str], *, seconds: float, out: Path | None) -> None:
    """Measure the codes graphs of `bundles`, print, and write to `out`; `ratio` is to the first one's speed.

    `seconds` are spent on each graph. What agrees is what the export counted, against torch in full precision.

    Raises:
        BundleError: one is no bundle.
    """
    tokenizers = {name: Tokenizer.load(name) for name in bundles}
    figures = [
        figure
        for modality in next(iter(tokenizers.values())).modalities
        for figure in _figures(
            {n: t for n, t in tokenizers.items() if modality in t.modalities}, modality, seconds
        )
    ]
    publish("graphs", {"seconds_per_figure": seconds}, figures, _table(figures), out)


def _figures(tokenizers: dict[str, Tokenizer], modality: Modality, seconds: float) -> list[dict[str, Any]]:
    rates: dict[str, list[float]] = {name: [] for name in tokenizers}
    for _ in range(ROUNDS):
        for name, tokenizer in tokenizers.items():
            windows = feature_windows(tokenizer, modality)
            rate, _ = best_rate(tokenizer.bundle, windows, seconds / ROUNDS)
            rates[name].append(rate * windows[0].segments)
    first = next(iter(rates.values()))
    return [
        _figure(name, tokenizer, modality)
        | {
            "segments_per_second": round(median(rates[name]), 1),
            "ratio": round(median(own / other for own, other in zip(rates[name], first, strict=True)), 3),
        }
        for name, tokenizer in tokenizers.items()
    ]


def _figure(name: str, tokenizer: Tokenizer, modality: Modality) -> dict[str, Any]:
    bundle, manifest = tokenizer.bundle, tokenizer.manifest
    parity = manifest.parity[modality]
    return {
        "bundle": name,
        "precision": manifest.precision,
        "modality": modality,
        "backbone_mb": round(len(bundle.graph(f"{modality}.backbone")) / 1e6, 2),
        "codes_mb": round(len(bundle.graph(f"{modality}.codes")) / 1e6, 2),
        "compared": parity.segments,
        "agreement": 1 - parity.mismatches / parity.segments,
        "mean_margin": parity.mean_mismatch_margin,
    }


def _table(figures: list[dict[str, Any]]) -> Table:
    table = Table(title="codes graphs, side by side")
    heads = (
        "modality",
        "bundle",
        "precision",
        "backbone MB",
        "codes MB",
        "agreement",
        "margin",
        "segments/s",
        "ratio",
    )
    for head in heads:
        table.add_column(head, justify="left" if head in heads[:3] else "right")
    for row in figures:
        table.add_row(
            row["modality"],
            Path(row["bundle"]).name,
            row["precision"],
            f"{row['backbone_mb']:.1f}",
            f"{row['codes_mb']:.1f}",
            f"{row['agreement']:.2%}",
            "-" if not row["mean_margin"] else f"{row['mean_margin']:.2g}",
            f"{row['segments_per_second']:,.0f}",
            f"{row['ratio']:.2f}",
        )
    return table
