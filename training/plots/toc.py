"""TOC as a picture: the scores of the channels, and how alike codes are on all of them and on the kept ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from training.toc import Selection, cosine_similarities, mean_similarity

# A heat map of more codes has cells smaller than the pixels of the picture.
_MOST_CODES = 1024
_KEPT, _LEFT_OUT = "#0f766e", "#c9ced6"
_WIDTHS, _ROW_HEIGHT = (1.15, 1.0, 1.0), 4.3


def toc_figure(selections: Mapping[str, Selection], title: str) -> Figure:
    """One row for each of `selections`, by name: its scores, highest first, and two heat maps.

    Both maps have their codes in the same order, which puts codes that are alike on all channels side by side; of a
    large codebook 1,024 codes are shown, evenly spaced.
    """
    figure = Figure(figsize=(14.5, _ROW_HEIGHT * len(selections) + 0.7), dpi=120, layout="constrained")
    figure.suptitle(title, fontweight="bold")
    grid = figure.subplots(len(selections), 3, squeeze=False, width_ratios=_WIDTHS)
    for row, (name, selection) in zip(grid, selections.items(), strict=True):
        _draw_scores(row[0], name, selection)
        _draw_heat_maps(figure, row[1], row[2], selection)
    return figure


def _draw_scores(axes: Axes, name: str, selection: Selection) -> None:
    order = torch.argsort(selection.scores, descending=True, stable=True)
    scores, dim = selection.scores[order].numpy(), len(order)
    kept = np.isin(order.numpy(), selection.kept)
    places = np.arange(1, dim + 1)
    for chosen, colour, label in (
        (kept, _KEPT, f"kept: {kept.sum()}"),
        (~kept, _LEFT_OUT, f"left out: {dim - kept.sum()}"),
    ):
        if chosen.any():
            axes.bar(places[chosen], scores[chosen], width=1.0, color=colour, label=label)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(
        title=f"{name}: {len(selection.table)} codes, {dim} channels",
        xlabel="channel, by score",
        ylabel="score U",
        xlim=(0.5, dim + 0.5),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(framealpha=0.85, edgecolor="none")


def _draw_heat_maps(figure: Figure, before: Axes, after: Axes, selection: Selection) -> None:
    shown = torch.linspace(0, len(selection.table) - 1, min(len(selection.table), _MOST_CODES)).round().long()
    every = cosine_similarities(selection.table[shown]).numpy()
    order = _alike_together(every)
    maps = [
        m[np.ix_(order, order)] for m in (every, cosine_similarities(selection.kept_table[shown]).numpy())
    ]
    tables = (selection.table, selection.kept_table)
    for axes, values, table, channels in zip(
        (before, after), maps, tables, ("all", f"the {len(selection.kept)} kept"), strict=True
    ):
        image = _draw_heat_map(axes, values)
        axes.set_title(f"on {channels} channels: mean {mean_similarity(table):+z.3f}")
        axes.set_xlabel(
            "code, alike ones together" if len(shown) == len(table) else f"{len(shown)} of the codes"
        )
    figure.colorbar(image, ax=(before, after), label="cosine of two codes", shrink=0.85)


def _draw_heat_map(axes: Axes, values: NDArray[np.float64]) -> AxesImage:
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    return image


def _alike_together(similarities: NDArray[np.float64]) -> NDArray[np.intp]:
    """An order of codes: the leaves of their average-linkage tree."""
    distances = np.clip(1 - similarities, 0, None)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), method="average")
    order: NDArray[np.intp] = leaves_list(tree)
    return order
