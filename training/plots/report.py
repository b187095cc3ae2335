"""The report of a training run: one HTML file with every curve, the recipe and the last figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from training.config import Recipe
from training.files import write_whole
from training.history import SECONDS, Series
from training.plots.curves import Curve, Scale, chart_svg, colours
from training.plots.page import chart, headline, page, section, table, tiles

REPORT = "report.html"
_TOTAL, _CLIPS = "loss", "clips_per_second"
_CODEBOOK = ("codebook", "agreement")
_COURSE = (SECONDS, _CLIPS, "learning_rate", "warm_start", "gradient")
_FIRST = (_TOTAL, "codebook/perplexity", "codebook/used", "agreement", SECONDS, _CLIPS)
_SHARES = ("codebook/used", "agreement")
_TITLES = {
    _TOTAL: "sum of the weighted losses",
    "codebook/perplexity": "perplexity of the codebook",
    "codebook/used": "share of the codes in use",
    "agreement": "agreement on a code",
}


@dataclass(frozen=True)
class Group:
    """Figures that share a chart: those whose names begin alike."""

    name: str  # the common beginning, with its level: "level2/codebook/perplexity"
    members: dict[str, str]  # label -> name

    @property
    def kind(self) -> str:
        """The beginning without its level."""
        return _split_level(self.name)[1]

    @property
    def title(self) -> str:
        """`kind` in words, with its level."""
        level = _split_level(self.name)[0].removeprefix("level").removesuffix("/")
        words = _TITLES.get(self.kind, self.kind.replace("_", " "))
        return f"level {level}: {words}" if level else words


def write_report(run: Path, series: Mapping[str, Series], recipe: Recipe, console: Console) -> None:
    """Write `run/report.html` of the figures `series` by name; cheap enough for every checkpoint.

    A report that cannot be drawn or written is said on `console`: it must not end the run that it reports on.
    """
    path = run / REPORT
    try:
        write_whole(path, report_html(series, recipe).encode())
    except Exception as error:
        kind = type(error).__name__
        console.print(f"'{path}' cannot be written ({kind}); training goes on", style="yellow")


def report_html(series: Mapping[str, Series], recipe: Recipe) -> str:
    """The report as one page that stands alone, well-formed XML for who wants to read it so."""
    curves = {name: Curve.of(one) for name, one in series.items() if one.steps}
    if SECONDS in curves:
        curves[_CLIPS] = curves[SECONDS].map(lambda seconds: recipe.training.batch_size / seconds)
    body = [headline(recipe.name, _progress(curves, recipe)), tiles(_first_figures(curves)), *_charts(curves)]
    if curves:
        body.append(section("Last values", "card", [_last_values(series, curves)]))
    body.append(section("Settings", "settings", _settings(recipe)))
    return page(f"{recipe.name}: training report", body)


def groups(names: Iterable[str]) -> list[Group]:
    """Names by their beginning up to a slash, after that of a level; those of codebooks up to the underscore."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        level, kind = _split_level(name)
        beginning, slash, label = kind.partition("/")
        if beginning == "codebook":
            figure, _, label = label.partition("_")
            beginning, label = f"codebook/{figure}", label or "all"
        found.setdefault(level + beginning, {})[label if slash else kind] = name
    return [Group(name, members) for name, members in found.items()]


def _charts(curves: Mapping[str, Curve]) -> Iterator[str]:
    parts: dict[str, list[str]] = {"Total loss": [], "Losses": [], "Codebook": [], "Speed and schedule": []}
    for group in groups(curves):
        parts[_part(group)].append(_chart(group, curves))
    for title, charts in parts.items():
        if charts:
            yield section(title, "charts", charts)


def _part(group: Group) -> str:
    first = group.kind.split("/")[0]
    if group.name == _TOTAL:
        return "Total loss"
    if first in _CODEBOOK:
        return "Codebook"
    return "Speed and schedule" if first in _COURSE else "Losses"


def _chart(group: Group, every: Mapping[str, Curve]) -> str:
    curves = {label: every[name] for label, name in group.members.items()}
    wide, percent = group.name == _TOTAL, group.kind in _SHARES
    scale = Scale.of(list(curves.values()), from_zero=_part(group) in ("Codebook", "Speed and schedule"))
    palette = colours(list(curves))
    legend = {label: (palette[label], _figure(group.kind, curve.last)) for label, curve in curves.items()}
    svg = chart_svg(group.name, curves, scale, percent=percent, wide=wide)
    return chart(group.title, svg, legend, note="log scale" if scale.log else "", wide=wide)


def _first_figures(curves: Mapping[str, Curve]) -> dict[str, str]:
    """What one looks at first, where it is logged, of every level."""
    shown = {}
    for group in sorted(groups(curves), key=lambda group: _rank(group.kind)):
        for label, name in group.members.items():
            if group.kind in _FIRST and (label == "all" or not group.kind.startswith("codebook")):
                pair = label.replace("_", ", ")
                title = f"{group.title}: {pair}" if group.kind == "agreement" else group.title
                shown[title] = _figure(group.kind, curves[name].last)
    return shown


def _rank(kind: str) -> int:
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _last_values(series: Mapping[str, Series], curves: Mapping[str, Curve]) -> str:
    rows = []
    for name, one in series.items():
        if name in curves:
            _, values = one.arrays()
            figures = (values[0], values[-1], curves[name].last, values.min(), values.max())
            rows.append([name, *(f"{figure:.4g}" for figure in figures)])
    return table(("figure", "first", "last", "mean of the last", "lowest", "highest"), rows)


def _settings(recipe: Recipe) -> Iterator[str]:
    """A table for the recipe itself and for each of its parts."""
    document = recipe.model_dump(mode="json")
    parts = {name: value for name, value in document.items() if isinstance(value, dict)}
    alone = {name: value for name, value in document.items() if name not in parts}
    for title, settings in {"recipe": alone, **parts}.items():
        yield table((title, ""), [(name, _written(value)) for name, value in _flat(settings)])


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _written(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None or value == {} else str(value)


def _figure(kind: str, value: float) -> str:
    return f"{100 * value:.1f} %" if kind in _SHARES else f"{value:.3g}"


def _progress(curves: Mapping[str, Curve], recipe: Recipe) -> str:
    done, total = int(max((c.raw_steps[-1] for c in curves.values()), default=0)), recipe.training.steps
    parts = [f"{recipe.method} of {', '.join(recipe.modalities)}", f"{done:,} of {total:,} steps"]
    if SECONDS in curves and done < total:
        parts.append(f"about {_duration((total - done) * curves[SECONDS].last)} to go")
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _split_level(name: str) -> tuple[str, str]:
    """`level2/club/audio` -> `level2/` and `club/audio`."""
    match = re.match(r"level\d+/", name)
    end = match.end() if match else 0
    return name[:end], name[end:]
