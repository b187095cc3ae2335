"""Curves over the steps of a run as small SVG charts; their texts take the colour of the page around them."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from training.history import Series

Floats = NDArray[np.float64]

# More points than pixels show nothing more; a report of a long run is then no larger than one of a short run.
_POINTS = 300
# The smoothed line is the mean over this part of all logged steps.
_WINDOW = 1 / 40
_SHARES_OF_RAW = (0.01, 0.99)
_LOG_FROM = 30.0
# They can be read on white and on black.
_PALETTE = ("#3b82f6", "#f0731f", "#12a875", "#a855f7", "#e5484d", "#0d9fb8", "#c79a0c", "#d6409f", "#808a99")
_FIXED = {"audio": _PALETTE[0], "video": _PALETTE[1], "text": _PALETTE[2], "all": _PALETTE[-1]}
_FRAME = "#8b8f98"


@dataclass(frozen=True)
class Curve:
    """A figure thinned for drawing: what was logged, as its extremes where it is dense, and the mean around it."""

    raw_steps: Floats
    raw: Floats
    steps: Floats
    smooth: Floats

    @property
    def last(self) -> float:
        """The mean over the last steps that were logged."""
        return float(self.smooth[-1])

    def map(self, function: Callable[[Floats], Floats]) -> Curve:
        """The curve of `function` of every value."""
        return Curve(self.raw_steps, function(self.raw), self.steps, function(self.smooth))

    @classmethod
    def of(cls, series: Series) -> Curve:
        """The curve of one or more values."""
        steps, values = series.arrays()
        smooth = _moving_mean(values, max(1, round(len(values) * _WINDOW)))
        starts = np.unique(np.linspace(0, len(values), min(len(values), _POINTS), endpoint=False).astype(int))
        if len(starts) == len(values):
            return cls(steps.astype(float), values, steps.astype(float), smooth)
        # The last step is always there: it is the one that people look for.
        ends = np.append(starts[1:], len(steps)) - 1
        lows, highs = (extreme.reduceat(values, starts) for extreme in (np.minimum, np.maximum))
        return cls(
            np.repeat(steps[ends], 2).astype(float),
            np.stack([lows, highs], axis=1).ravel(),
            steps[ends].astype(float),
            smooth[ends],
        )


@dataclass(frozen=True)
class Scale:
    """The vertical axis: `log` where curves span decades, from `low` to `high`."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, curves: Sequence[Curve], from_zero: bool) -> Scale:
        """Where all of the curves are seen, and all but the rarest of what was logged; `from_zero`: zero is, too."""
        smooth = np.concatenate([curve.smooth for curve in curves])
        seen = np.concatenate([smooth, *(np.quantile(curve.raw, _SHARES_OF_RAW) for curve in curves)])
        low, high = float(seen.min()), float(seen.max())
        if from_zero:
            low, high = 1.08 * min(0.0, low), 1.08 * max(0.0, high)
            return cls(low, high if high > low else 1.0, log=False)
        if all((curve.raw > 0).all() for curve in curves) and smooth.max() / smooth.min() >= _LOG_FROM:
            return cls(low / 1.3, high * 1.3, log=True)
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
        return cls(low - margin, high + margin, log=False)


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label; modalities have theirs in every chart."""
    taken = [_FIXED[label] for label in labels if label in _FIXED]
    free = itertools.cycle([colour for colour in _PALETTE if colour not in taken])
    return {label: _FIXED[label] if label in _FIXED else next(free) for label in labels}


def chart_svg(name: str, curves: Mapping[str, Curve], scale: Scale, *, percent: bool, wide: bool) -> str:
    """The curves by label as one `<svg>` element; `name` tells its ids from those of other charts of a page."""
    figure = Figure(figsize=(13.0, 3.3) if wide else (4.7, 2.7))
    axes = figure.add_axes((0.036, 0.09, 0.955, 0.88) if wide else (0.1, 0.11, 0.875, 0.85))
    palette = colours(list(curves))
    for label, curve in curves.items():
        if len(curve.smooth) == 1:
            axes.plot(curve.steps, curve.smooth, "o", color=palette[label], markersize=4)
        axes.plot(curve.raw_steps, curve.raw, color=palette[label], alpha=0.25, linewidth=0.7)
        axes.plot(curve.steps, curve.smooth, color=palette[label], linewidth=1.5)
    _dress(axes, scale, percent)
    return _svg(figure, name)


def _dress(axes: Axes, scale: Scale, percent: bool) -> None:
    axes.set_ylim(scale.low, scale.high)
    if scale.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %" if percent else f"{y:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.01)
    axes.grid(color=_FRAME, alpha=0.22, linewidth=0.6)
    axes.tick_params(which="both", length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=_FRAME, alpha=0.6)


def _svg(figure: Figure, name: str) -> str:
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    whole = text.getvalue()
    # Elements are numbered alike in every chart; only what is referred to has a hash for its id.
    return re.sub(r' id="[\w.]+_\d+"', "", whole[whole.index("<svg") :])


def _moving_mean(values: Floats, width: int) -> Floats:
    """The mean of `width` values around each; near an end, of those that there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low = np.maximum(places - width // 2, 0)
    high = np.minimum(places + (width + 1) // 2, len(values))
    smooth: Floats = (sums[high] - sums[low]) / (high - low)
    return smooth
