"""The figures of a bench as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_SHOWN = ("p50", "p90", "p99", "p99.9")


def plot_serve(figures: Sequence[dict[str, Any]], swept: dict[str, Any], path: Path) -> None:
    """Latency against offered load on the left, efficiency of each case on the right."""
    figure = Figure(figsize=(13, 2 + 0.4 * max(8, len(figures))), layout="constrained")
    left, right = figure.subplots(1, 2)
    if swept:
        _latency(left, swept)
    _efficiency(right, figures)
    _save(figure, path)


def plot_memory(samples: Sequence[tuple[float, float]], title: str, path: Path) -> None:
    """Memory of the server over time."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([second / 60 for second, _ in samples], [held for _, held in samples])
    axes.set(title=title, xlabel="minutes", ylabel="memory of the server, MB")
    axes.set_ylim(bottom=0)
    _save(figure, path)


def plot_retrieval(figures: Sequence[dict[str, Any]], path: Path) -> None:
    """Time of a query against the number of items, a panel for each world."""
    worlds = list(dict.fromkeys(row["world"] for row in figures))
    figure = Figure(figsize=(6.5 * len(worlds), 4.5), layout="constrained")
    for axes, world in zip(figure.subplots(1, len(worlds), squeeze=False)[0], worlds, strict=True):
        for name in dict.fromkeys(row["index"] for row in figures):
            rows = [row for row in figures if row["index"] == name and row["world"] == world]
            axes.plot([r["items"] for r in rows], [r["p50_ms"] for r in rows], marker="o", label=name)
        axes.set(title=f"top 10 of codes of '{world}'", xlabel="items", ylabel="one query, p50, ms")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend()
    _save(figure, path)


def _latency(axes: Axes, swept: dict[str, Any]) -> None:
    for name in _SHOWN:
        points = [p for p in swept["points"] if p["latency_ms"]]
        offered = [p["offered"] for p in points]
        axes.plot(offered, [p["latency_ms"][name] for p in points], marker="o", label=name)
    axes.axvline(0.7 * swept["saturation_requests_per_second"], color="grey", linestyle=":", label="70 %")
    axes.set(
        title=f"{swept['case']}, one item a request",
        xlabel="requests a second, open loop",
        ylabel="latency, ms",
    )
    axes.set_yscale("log")
    axes.legend()


def _efficiency(axes: Axes, figures: Sequence[dict[str, Any]]) -> None:
    bars = [
        (f"{label} {rows['items_per_request']}", number, rows["efficiency"])
        for number, row in enumerate(figures)
        for label, part in (("engine", "in_process"), ("HTTP", "http"))
        for rows in row[part]
    ]
    labels = list(dict.fromkeys(label for label, _, _ in bars))
    height = 0.8 / len(labels)
    for place, label in enumerate(labels):
        mine = [(number, value) for name, number, value in bars if name == label]
        axes.barh(
            [number + place * height for number, _ in mine], [value for _, value in mine], height, label=label
        )
    axes.set_yticks([number + 0.3 for number in range(len(figures))], [row["case"] for row in figures])
    axes.invert_yaxis()
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.set(title="items a second over the bare graphs", xlabel="efficiency")
    axes.legend(loc="upper right")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)
