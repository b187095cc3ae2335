"""The metrics of several processes as those of one: samples of one name and one set of labels are added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_OF_THE_FIRST = ("_created", "_start_time_seconds", "_max_fds", "python_info")
"""Ends of names of what is no amount: here the first process speaks for all."""


def families_of(text: bytes) -> list[Metric]:
    """The families of an exposition."""
    return list(text_string_to_metric_families(text.decode()))


def added(parts: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Counters, histograms and gauges of all parts together."""
    metrics: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, frozenset[tuple[str, str]]], Sample]] = {}
    for family in (family for part in parts for family in part):
        metrics.setdefault(family.name, family)
        samples = values.setdefault(family.name, {})
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            if key not in samples:
                samples[key] = sample
            elif not sample.name.endswith(_OF_THE_FIRST):
                samples[key] = sample._replace(value=samples[key].value + sample.value)
    totals = []
    for name, family in metrics.items():
        total = Metric(name, family.documentation, family.type)
        total.samples = list(values[name].values())
        totals.append(total)
    return totals


def lasting(families: Iterable[Metric]) -> list[Metric]:
    """What stays true of a process that is gone: what it counted."""
    return [
        family
        for family in families
        if family.type in ("counter", "histogram") and not family.name.startswith("process_")
    ]


class Families(CollectorRegistry):
    """A registry of what a function finds, for whoever wants a registry."""

    def __init__(self, find: Callable[[], Sequence[Metric]]) -> None:
        super().__init__()
        self._find = find

    def collect(self) -> Iterator[Metric]:
        """The families, as they are now."""
        yield from self._find()


def exposition_of(families: Sequence[Metric]) -> bytes:
    """The text that Prometheus reads."""
    return generate_latest(Families(lambda: families))
