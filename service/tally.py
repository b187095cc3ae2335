"""What one thread counts and observes with every request: no locks, no search for labels, no walk through buckets."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily


class Count:
    """Amounts by the values of some labels, for Prometheus; to be used by one thread alone."""

    def __init__(
        self, name: str, description: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._description, self._labels = name, description, labels
        self._amounts: Counter[tuple[str, ...]] = Counter()
        registry.register(self)

    def add(self, values: tuple[str, ...], amount: int = 1) -> None:
        """Count `amount` where the labels have `values`."""
        self._amounts[values] += amount

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What Prometheus reads."""
        family = CounterMetricFamily(self._name, self._description, labels=self._labels)
        for values, amount in tuple(self._amounts.items()):
            family.add_metric(values, amount)
        yield family


class CountOf:
    """A number that somebody else counts, for Prometheus."""

    def __init__(
        self, name: str, description: str, read: Callable[[], float], registry: CollectorRegistry
    ) -> None:
        self._name, self._description, self._read = name, description, read
        registry.register(self)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What Prometheus reads."""
        yield CounterMetricFamily(self._name, self._description, self._read())


class Tally:
    """Observations by the value of one label, for Prometheus; to be used by one thread alone."""

    def __init__(
        self, name: str, description: str, label: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        """`bounds` are the upper bounds of the buckets, ascending; one more is without bound."""
        self._name, self._description, self._label = name, description, label
        self._bounds = bounds
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, value: str, observed: float) -> None:
        """Count `observed` where the label has `value`."""
        if value not in self._counts:
            self._counts[value], self._sums[value] = [0] * (len(self._bounds) + 1), 0.0
        self._counts[value][bisect_left(self._bounds, observed)] += 1
        self._sums[value] += observed

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What Prometheus reads."""
        family = HistogramMetricFamily(self._name, self._description, labels=[self._label])
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for value, counts in tuple(self._counts.items()):
            buckets = list(zip(names, accumulate(counts), strict=True))
            family.add_metric([value], buckets, self._sums[value])
        yield family
