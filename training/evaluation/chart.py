"""Scores as a picture: a bar with its interval for every direction, chance and upper bound beside it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.evaluation.scores import Document
from training.evaluation.table import heading

_BAR, _BOUND, _CHANCE = "#0f766e", "#8b8f98", "#e5484d"
_ROW_HEIGHT = 0.36


def scores_figure(document: Document) -> Figure:
    """One block a task. A line behind a bar is what its tested modality scores alone, a mark what chance does."""
    tasks: dict[str, Document] = document["tasks"]
    heights = [len(scores["directions"]) + 1 for scores in tasks.values()]
    height = _ROW_HEIGHT * sum(heights) + 0.5 * len(tasks) + 1.2
    figure = Figure(figsize=(8.5, height), dpi=120, layout="constrained")
    figure.suptitle(heading(document, capital=True), fontsize=9)
    blocks = figure.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (task, scores) in zip(blocks, tasks.items(), strict=True):
        _draw(axes, task, scores)
    handles, labels = blocks[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw(axes: Axes, task: str, scores: Document) -> None:
    names = [*scores["directions"], "mean"]
    intervals = [*scores["directions"].values(), scores["mean"]]
    chances = [*(scores["chances"][name] for name in scores["directions"]), scores["chance"]]
    places = range(len(names))
    means = [value["mean"] for value in intervals]
    half_widths = [value["half_width"] or 0.0 for value in intervals]
    axes.barh(places, means, xerr=half_widths, height=0.62, color=_BAR, capsize=2.5, label="score")
    bounds = {place: scores["within"].get(name.split(" -> ")[-1]) for place, name in enumerate(names)}
    for place, bound in bounds.items():
        if bound is not None:
            label = "tested modality alone" if place == 0 else None
            axes.plot([bound["mean"]] * 2, [place - 0.4, place + 0.4], color=_BOUND, linewidth=2, label=label)
    axes.plot(chances, places, "D", color=_CHANCE, markersize=4, label="chance")
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.01)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.tick_params(length=0, labelsize=8)
    axes.set_title(f"{task}, {scores['metric']}", loc="left", fontsize=9, fontweight="bold")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
