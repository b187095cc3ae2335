"""The comparison as a picture: throughput above, 99th percentile below, a bar a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_WIDTH = 0.8
_ROWS = (
    ("items_per_second", "items a second at saturation"),
    ("p99_ms", "p99 at 70 % of its own saturation, ms"),
)


def draw(figures: list[dict[str, Any]], path: Path) -> None:
    """Write the picture of `figures` to `path`, in the format of its suffix."""
    sizes = sorted({row["items_per_request"] for row in figures})
    figure = Figure(figsize=(5.5 * len(sizes), 7), layout="constrained")
    grid = figure.subplots(len(_ROWS), len(sizes), squeeze=False, sharey="row")
    for axes_of_row, (value, label) in zip(grid, _ROWS, strict=True):
        for axes, size in zip(axes_of_row, sizes, strict=True):
            _panel(axes, [row for row in figures if row["items_per_request"] == size], value)
            axes.set_title(f"{size} items a request" if size > 1 else "one item a request")
        axes_of_row[0].set_ylabel(label)
    handles, names = max(
        (axes.get_legend_handles_labels() for axes in grid.flat), key=lambda both: len(both[1])
    )
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _panel(axes: Axes, rows: list[dict[str, Any]], value: str) -> None:
    costs = sorted({row["item_ms"] for row in rows})
    servers = list(dict.fromkeys(row["server"] for row in rows))
    for number, server in enumerate(servers):
        found = {row["item_ms"]: row[value] for row in rows if row["server"] == server and value in row}
        places = [index - _WIDTH / 2 + (number + 0.5) * _WIDTH / len(servers) for index in range(len(costs))]
        axes.bar(
            [place for place, cost in zip(places, costs, strict=True) if cost in found],
            [found[cost] for cost in costs if cost in found],
            _WIDTH / len(servers),
            label=server,
        )
    axes.set_yscale("log")
    axes.set_xticks(range(len(costs)), [f"{cost:g} ms" for cost in costs])
    axes.set_xlabel("cost of an item in the graph")
