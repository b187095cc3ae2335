"""The bones of an HTML page that stands alone: no script, no network, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #667080; --page: #f5f6f8; --card: #fff; --line: #e2e5ea; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e9ee; --soft: #9aa3b2; --page: #14161a; --card: #1c1f25; --line: #2d323b; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 82rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; }
h2 { margin: 2.2rem 0 .8rem; font-size: 1.1rem; }
p { margin: .2rem 0 0; color: var(--soft); }
.tiles, .charts, .settings { display: grid; gap: .9rem; }
.tiles { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); margin-top: 1.3rem; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.settings { grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); align-items: start; }
.tile, figure, .card, .settings > * { margin: 0; padding: .8rem 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }
.tile b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.tile span, small { color: var(--soft); font-size: .8rem; }
figure { display: flex; flex-direction: column; }
figure.wide { grid-column: 1 / -1; }
figure svg { display: block; width: 100%; height: auto; margin-top: auto; }
figure svg text { fill: var(--soft) !important; font-family: system-ui, sans-serif !important; }
figcaption { margin-bottom: .4rem; font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .8rem; font-weight: 400; color: var(--soft); }
.legend i { display: inline-block; width: .7rem; height: .7rem; margin-right: .35rem; border-radius: 50%; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .6rem .22rem 0; border-bottom: 1px solid var(--line); text-align: right; }
th { color: var(--soft); font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
td { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page of `body`, which is HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def headline(title: str, under_it: str) -> str:
    """What the page is about, and a sentence about it."""
    return f"<h1>{escape(title)}</h1><p>{escape(under_it)}</p>"


def tiles(figures: Mapping[str, str]) -> str:
    """Figures that are seen first, by what they are."""
    cells = (
        f'<div class="tile"><span>{escape(n)}</span><b>{escape(v)}</b></div>' for n, v in figures.items()
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def chart(title: str, svg: str, legend: Mapping[str, tuple[str, str]], *, note: str, wide: bool) -> str:
    """A chart with its title, a note beside it, and for each line its colour and last value."""
    lines = (
        f'<span><i style="background:{colour}"></i>{escape(label)} {escape(value)}</span>'
        for label, (colour, value) in legend.items()
    )
    caption = f"{escape(title)} <small>{escape(note)}</small>"
    legend_html = f'<div class="legend">{"".join(lines)}</div>'
    opening = '<figure class="wide">' if wide else "<figure>"
    return f"{opening}<figcaption>{caption}{legend_html}</figcaption>{svg}</figure>"


def section(title: str, kind: str, parts: Iterable[str]) -> str:
    """A headline over `parts`; `kind` is how they are laid out: charts, settings or card."""
    return f'<h2>{escape(title)}</h2><div class="{kind}">{"".join(parts)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that may scroll to the side."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
