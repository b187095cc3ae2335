"""Finished jobs as a document, and the document as markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict
from typing import Any

import numpy as np

from tessera.scores import percent
from training.evaluation.probe import Interval
from training.results.job import LINEAR, ControlJob, Document, Job
from training.results.ledger import Ledger

_HEAD = (
    "",
    "channels",
    "accuracy",
    "worst direction",
    "over linear",
    "same modality",
    "nuisance R²",
    "perplexity",
    "parameters",
    "CPU s",
)


def results_document(title: str, jobs: Sequence[Job], ledger: Ledger) -> Document:
    """Mean and 95 % interval over the seeds of everything that jobs came to, by setting and row.

    A row of a model that TOC is used on has `toc` beside `all`, on `keep` channels. `lead`: by how much, in the
    direction where it is least, a row is above the best linear control. Only jobs in the ledger count, and
    `seconds` are of those that were never stopped (None: there is none).
    """
    cells: dict[str, dict[str, list[Document]]] = {}
    oracles: dict[str, list[float]] = {}
    kept: dict[str, int | None] = {}
    linear: set[str] = set()
    for job in jobs:
        scores = ledger.scores(job)
        if scores is None:
            continue
        cells.setdefault(job.setting, {}).setdefault(job.row, []).append(scores)
        kept[job.row] = job.kept
        if isinstance(job, ControlJob) and job.control == LINEAR:
            linear.add(job.row)
        if scores.get("oracle") is not None:
            oracles.setdefault(job.setting, []).append(scores["oracle"])
    return {
        "title": title,
        "settings": {
            setting: {
                "oracle": float(np.mean(oracles[setting])) if setting in oracles else None,
                "chance": next(iter(rows.values()))[0]["all"]["chance"],
                "rows": _led({row: _row(seeds, kept[row]) for row, seeds in rows.items()}, linear),
            }
            for setting, rows in cells.items()
        },
    }


def _led(rows: Document, linear: Set[str]) -> Document:
    """`rows` with the lead of each over those that are linear."""
    controls = [row["all"]["directions"] for name, row in rows.items() if name in linear]
    for name, row in rows.items():
        for part in ("all", "toc"):
            if part in row and controls and name not in linear:
                row[part]["lead"] = min(
                    value["mean"] - max(control[direction]["mean"] for control in controls)
                    for direction, value in row[part]["directions"].items()
                )
    return rows


def _row(seeds: Sequence[Document], keep: int | None) -> Document:
    parts: Document = {
        part: _figures([seed[part] for seed in seeds]) for part in ("all", "toc") if part in seeds[0]
    }
    known = [seed["seconds"] for seed in seeds if seed["seconds"] is not None]
    return {
        **parts,
        "keep": keep,
        "seeds": len(seeds),
        "parameters": seeds[0]["parameters"],
        "seconds": float(np.mean(known)) if known else None,
    }


def _figures(scores: Sequence[Document]) -> Document:
    def over_seeds(value: Callable[[Document], float]) -> dict[str, Any]:
        return asdict(Interval.of([value(one) for one in scores]))

    return {
        "mean": over_seeds(lambda one: float(np.mean(list(one["directions"].values())))),
        "directions": {
            name: over_seeds(lambda one, name=name: one["directions"][name])  # type: ignore[misc]
            for name in scores[0]["directions"]
        },
        "within": over_seeds(lambda one: float(np.mean(list(one["within"].values())))),
        "nuisance": over_seeds(lambda one: float(np.mean(list(one["nuisance"].values()))))
        if scores[0]["nuisance"]
        else None,
        "perplexity": over_seeds(lambda one: float(np.mean(list(one["perplexity"].values())))),
    }


def markdown(document: Document) -> str:
    """A heading, and a table for each setting; a row of fewer seeds than others says so."""
    lines = [f"## {document['title']}", ""]
    for setting, table in document["settings"].items():
        seeds = _seeds(max(row["seeds"] for row in table["rows"].values()))
        oracle = "" if table["oracle"] is None else f", oracle on the true latents {_share(table['oracle'])}"
        lines += [f"### {setting}", "", f"{seeds}, chance {_share(table['chance'])}{oracle}.", ""]
        lines += [f"| {' | '.join(_HEAD)} |", "|" + "---|" * len(_HEAD)]
        lines += [f"| {' | '.join(cells)} |" for cells in _cells(table)]
        lines.append("")
    return "\n".join(lines)


def _cells(table: Document) -> Iterator[tuple[str, ...]]:
    most = max(row["seeds"] for row in table["rows"].values())
    for name, row in table["rows"].items():
        label = name if row["seeds"] == most else f"{name} ({_seeds(row['seeds'])})"
        for part in ("all", "toc"):
            if part not in row:
                continue
            figures = row[part]
            worst, value = min(figures["directions"].items(), key=lambda item: float(item[1]["mean"]))
            yield (
                label if part == "all" else "",
                "all" if part == "all" else f"TOC {row['keep']}",
                percent(figures["mean"]),
                f"{percent(value)} ({worst.replace('->', '→')})",
                f"{100 * figures['lead']:+.1f}" if "lead" in figures else "",
                percent(figures["within"]),
                "" if figures["nuisance"] is None else f"{figures['nuisance']['mean']:.2f}",
                f"{figures['perplexity']['mean']:.0f}",
                f"{row['parameters'] / 1e6:.2f} M" if part == "all" and row["parameters"] else "",
                _seconds(row["seconds"]) if part == "all" else "",
            )


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
