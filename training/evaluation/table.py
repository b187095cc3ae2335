"""Scores as a table: in the terminal and as markdown, from the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Table

from tessera.scores import percent
from training.evaluation.scores import Document

_HEAD = ("task", "fitted on -> tested on", "score", "other figures", "chance")


@dataclass(frozen=True)
class Row:
    """One line of the table; `first` of its task."""

    task: str
    direction: str
    score: str
    further: str
    chance: str
    first: bool

    def cells(self) -> tuple[str, ...]:
        """In the order of the columns; a task is named once."""
        return (self.task if self.first else "", self.direction, self.score, self.further, self.chance)


def rows_of(document: Document) -> Iterator[Row]:
    """Directions between modalities, their mean, what a modality scores alone, what codes tell of the nuisance."""
    for task, scores in document["tasks"].items():
        label = f"{task}, {scores['metric']}"
        alone = {m: f"{m} -> {m}" for m in scores["within"]}
        lines: list[tuple[str, str, str, str]] = [
            (name, percent(value), _further(scores, name), _chance(scores, name))
            for name, value in scores["directions"].items()
        ]
        lines.append(("mean", percent(scores["mean"]), "", _written(scores["chance"])))
        lines += [
            (f"{m} alone", percent(value), _further(scores, alone[m]), _chance(scores, alone[m]))
            for m, value in scores["within"].items()
        ]
        lines += [
            (f"nuisance in {m} (R^2)", percent(value), "lower is better", "0.0 %")
            for m, value in scores.get("nuisance", {}).items()
        ]
        for place, line in enumerate(lines):
            yield Row(label, *line, first=place == 0)


def rich_table(document: Document) -> Table:
    """For the terminal."""
    head, rows = _grid(document)
    table = Table(*head, title=heading(document))
    for cells in rows:
        if cells[0] and table.row_count:
            table.add_section()
        table.add_row(*cells)
    return table


def markdown(document: Document) -> str:
    """A heading, a table, and what has to be known of each task."""
    head, rows = _grid(document)
    lines = [f"{heading(document, capital=True)}:", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in captions(document))]) + "\n"


def heading(document: Document, capital: bool = False) -> str:
    """By which protocol, and what an interval is over."""
    runs, kept = len(document["seeds"]), document["kept_channels"]
    heads = max(scores["heads"] for scores in document["tasks"].values())
    over = f"{runs} runs" if runs > 1 else f"{heads} seeds of the heads of one run"
    what = f"mean and 95 % interval over {over}" if max(runs, heads) > 1 else "one run"
    text = f"protocol {document['protocol'].replace('_', '-')}, {kept} channels kept, {what}"
    return f"{text[0].upper()}{text[1:]}" if capital else text


def captions(document: Document) -> list[str]:
    """A sentence or two about each task, one for tasks that share them."""
    by_text: dict[str, list[str]] = {}
    for task, scores in document["tasks"].items():
        clips: Mapping[str, int] = scores["clips"]
        fitted = f"{clips['fit']} clips to fit on, " if clips["fit"] else ""
        by_text.setdefault(scores["caption"], []).append(f"{task} ({fitted}{clips['test']} to test on)")
    return [f"{', '.join(tasks)}: {text}" for text, tasks in by_text.items()]


def _grid(document: Document) -> tuple[list[str], list[list[str]]]:
    """Head and rows, without the columns in which nothing stands."""
    rows = [row.cells() for row in rows_of(document)]
    filled = [place for place in range(len(_HEAD)) if any(cells[place] for cells in rows)]
    return [_HEAD[place] for place in filled], [[cells[place] for place in filled] for cells in rows]


def _further(scores: Document, name: str) -> str:
    """The figures beside the one that the table is about."""
    others = {
        figure: value for figure, value in scores["figures"][name].items() if figure != scores["metric"]
    }
    return ", ".join(
        f"{figure} {value['mean']:.1f}" if "rank" in figure else f"{figure} {100 * value['mean']:.1f} %"
        for figure, value in others.items()
    )


def _chance(scores: Document, name: str) -> str:
    return _written(scores["chances"][name])


def _written(share: float) -> str:
    return f"{100 * share:.1f} %"
