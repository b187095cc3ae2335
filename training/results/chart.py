"""The accuracy of every row of every setting, as bars with their intervals."""

from __future__ import annotations

from matplotlib.figure import Figure

from training.results.job import Document


def results_figure(document: Document) -> Figure:
    """One panel a setting, rows from top to bottom; the lines are the oracle and chance."""
    settings = document["settings"]
    tallest = max(len(table["rows"]) for table in settings.values())
    figure = Figure(figsize=(4 * len(settings) + 2, 0.32 * tallest + 1.4), layout="constrained")
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for panel, (setting, table) in zip(panels, settings.items(), strict=True):
        rows = table["rows"]
        means = [100 * row["all"]["mean"]["mean"] for row in rows.values()]
        widths = [100 * (row["all"]["mean"]["half_width"] or 0) for row in rows.values()]
        colours = ["#9aa5b1" if not row["parameters"] else "#3b6ea5" for row in rows.values()]
        panel.barh(list(rows), means, xerr=widths, color=colours, error_kw={"elinewidth": 1})
        panel.axvline(100 * table["chance"], color="#555", linestyle=":", linewidth=1)
        if table["oracle"] is not None:
            panel.axvline(100 * table["oracle"], color="#2a7", linestyle="--", linewidth=1)
        panel.set(title=setting, xlabel="accuracy across modalities, %", xlim=(0, 100))
    panels[0].invert_yaxis()
    return figure
