"""Scores of a task over runs or seeds as one document: what `tessera evaluate --out` writes and `export` reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from training.evaluation.health import code_agreement, codebook_health
from training.evaluation.probe import Direction, Interval
from training.evaluation.tasks.task import Outcome, Result, Task

Document = dict[str, Any]


def task_scores(task: Task, results: Sequence[Result]) -> Document:
    """Mean and interval of every direction of one task; `results` are those of one run each.

    Between runs, heads of a run are averaged first: a run is what varies. With one run the interval is over its
    heads. `directions` are between different modalities, `mean` is theirs, `within` is what a modality scores alone,
    the upper bound; `figures` has all figures of every direction. Codes are those of the first run.
    """
    first = results[0]
    pairs = list(first.outcomes[0])
    across = [pair for pair in pairs if pair[0] != pair[1]]

    def interval(value: Callable[[Outcome], float]) -> dict[str, Any]:
        runs = [[value(outcome) for outcome in result.outcomes] for result in results]
        return asdict(Interval.of([float(np.mean(heads)) for heads in runs] if len(runs) > 1 else runs[0]))

    def figure(pair: Direction, name: str) -> dict[str, Any]:
        return interval(lambda outcome: outcome[pair][name])

    scores: Document = {
        "metric": task.metric,
        "caption": task.caption,
        "clips": dict(task.clips),
        "heads": len(first.outcomes),
        "chance": fmean(task.chance[pair] for pair in across),
        "directions": {_name(pair): figure(pair, task.metric) for pair in across},
        "mean": interval(lambda outcome: float(np.mean([outcome[pair][task.metric] for pair in across]))),
        "within": {pair[0]: figure(pair, task.metric) for pair in pairs if pair[0] == pair[1]},
        "figures": {
            _name(pair): {name: figure(pair, name) for name in first.outcomes[0][pair]} for pair in pairs
        },
        "chances": {_name(pair): task.chance[pair] for pair in pairs},
        "codebook": codebook_health(first.coded, first.sizes),
        "agreement": code_agreement(first.coded) if first.paired and len(first.coded) > 1 else {},
    }
    if first.nuisance:
        shares = {m: [result.nuisance[m] for result in results] for m in first.nuisance}
        scores["nuisance"] = {m: asdict(Interval.of(values)) for m, values in shares.items()}
    return scores


def whole_document(
    tasks: dict[str, Document], seeds: Sequence[int], protocol: str, toc: Document
) -> Document:
    """The scores of all tasks under `tasks`, and what they share.

    A held-out probe of generated data is what a model card states: its scores stand at the top as well.
    """
    shared: Document = {"protocol": protocol, "seeds": list(seeds), **toc}
    card = next((tasks[name] for name in ("world", "spiked") if name in tasks), {})
    return {**shared, **(card if protocol == "held_out" else {}), "tasks": tasks}


def _name(pair: Direction) -> str:
    return f"{pair[0]} -> {pair[1]}"
