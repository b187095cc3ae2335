"""Which modality uses which code, as the papers draw it: a square a code, red, green and blue for the modalities.

A code that all modalities use alike is white or grey; one of a single modality has its pure colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from tessera.windows import Modality

Floats = NDArray[np.float64]
_CHANNEL: dict[Modality, int] = {"audio": 0, "video": 1, "text": 2}
_DEAD = (0.12, 0.12, 0.14)
# Of the commonest code's brightness; a code that is used at all must be told from a dead one.
_DARKEST = 0.35


def activation_colours(use: Mapping[Modality, Tensor]) -> Floats:
    """Red, green and blue [K, 3] from how often each modality says each code [K].

    A modality counts by shares of its own segments, so that none is brighter for having more of them. Hue says who
    uses the code; brightness, on a scale of logarithms, how much.
    """
    shares_MK = np.stack([counts.numpy() / max(1, int(counts.sum())) for counts in use.values()])
    total_K, most_K = shares_MK.sum(axis=0), shares_MK.max(axis=0)
    used_K = total_K > 0
    colours = np.zeros((len(total_K), 3))
    for modality, share_K in zip(use, shares_MK, strict=True):
        colours[used_K, _CHANNEL[modality]] = share_K[used_K] / most_K[used_K]
    colours[used_K] *= _brightness(total_K[used_K])[:, None]
    colours[~used_K] = _DEAD
    return colours


def activation_figure(levels: Mapping[str, Mapping[Modality, Tensor]], title: str) -> Figure:
    """A grid of squares for each of `levels`, by name; codes in the order of their numbers, row after row."""
    figure = Figure(figsize=(4.8 * len(levels), 5.9), dpi=120, layout="constrained")
    figure.suptitle(title, fontweight="bold")
    for axes, (name, use) in zip(
        figure.subplots(1, len(levels), squeeze=False)[0], levels.items(), strict=True
    ):
        _draw(axes, name, use)
    modalities = next(iter(levels.values()))
    handles = [Patch(color=np.eye(3)[_CHANNEL[m]].tolist(), label=f"{m} alone") for m in modalities]
    everyone = sum(np.eye(3)[_CHANNEL[m]] for m in modalities)
    handles += [
        Patch(facecolor=np.asarray(everyone).tolist(), edgecolor="grey", label="all alike"),
        Patch(color=_DEAD, label="unused"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw(axes: Axes, name: str, use: Mapping[Modality, Tensor]) -> None:
    colours = activation_colours(use)
    columns = math.ceil(math.sqrt(len(colours)))
    rows = math.ceil(len(colours) / columns)
    pixels = np.zeros((rows * columns, 4))
    pixels[: len(colours), :3], pixels[: len(colours), 3] = colours, 1.0
    axes.imshow(pixels.reshape(rows, columns, 4), interpolation="nearest")
    users = np.stack([counts.numpy() > 0 for counts in use.values()]).sum(axis=0)
    told = ", ".join(
        f"{int((users == number).sum())} by {'none' if number == 0 else number}"
        for number in range(len(use), -1, -1)
    )
    axes.set_title(f"{name}: {len(colours)} codes\nused {told}", fontsize=9)
    for axis, squares in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks([])
        axis.set_ticks(np.arange(squares + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def _brightness(total: Floats) -> Floats:
    logarithm = np.log(total)
    span = logarithm.max() - logarithm.min() if len(total) else 0.0
    place = (logarithm - logarithm.min()) / span if span > 0 else np.ones_like(total)
    bright: Floats = _DARKEST + (1 - _DARKEST) * place
    return bright
