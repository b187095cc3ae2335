"""Which codes a server gives lately, by model and modality, against those that the bundle gave when it was made.

A count halves whenever so many more segments came, so what is old fades, and memory is that of the codebooks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily

from tessera.manifest import Manifest
from tessera.windows import Modality

Counts = Sequence[NDArray[np.float64]]
"""How often each code was given, [size] for each level; not whole numbers once they fade."""

_FOLDED_AT = 1024
"""Segments that wait to be counted, at most: arrays are added up once for many requests, not once for each."""

_IN_USE = 0.5
"""What is left of one occurrence after one half-life."""


class CodeUse:
    """The codes of one modality. Any thread may add, any may look."""

    def __init__(self, sizes: Sequence[int], half_life: int) -> None:
        """`sizes` of the codebook of each level; `half_life` in segments."""
        self._half_life = half_life
        self._folded_at = max(1, min(_FOLDED_AT, half_life // 16))
        self._counts = [np.zeros(size) for size in sizes]
        self._lock = threading.Lock()
        self._waiting: list[NDArray[np.int64]] = []
        self._segments = 0

    def add(self, codes: NDArray[np.int64]) -> None:
        """Count `codes` [..., levels]. A code that the codebook does not have is a bug, and counts for nothing."""
        with self._lock:
            self._waiting.append(codes)
            self._segments += codes.size // max(1, codes.shape[-1])
            if self._segments >= self._folded_at:
                self._fold()

    def counts(self) -> Counts:
        """How often each code was given, of those that have not faded."""
        with self._lock:
            self._fold()
            return [counts.copy() for counts in self._counts]

    def _fold(self) -> None:
        if not self._waiting:
            return
        levels = len(self._counts)
        waiting = np.concatenate([codes.reshape(-1, levels) for codes in self._waiting])
        fade = 0.5 ** (self._segments / self._half_life)
        for level, counts in enumerate(self._counts):
            counts *= fade
            counts += np.bincount(waiting[:, level], minlength=len(counts))[: len(counts)]
        self._waiting, self._segments = [], 0


def perplexity(counts: NDArray[np.float64]) -> float:
    """The exponential of the entropy of `counts` [K]: how many codes, equally used, would be as varied."""
    return float(np.exp(_entropy(counts / counts.sum())))


def used_ratio(counts: NDArray[np.float64]) -> float:
    """The share of codes that were given within the last half-life."""
    return float((counts >= _IN_USE).mean())


def divergence(counts: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """That of Jensen and Shannon, in bits: 0 where both have the same shares, 1 where they have no code in common."""
    own, other = counts / counts.sum(), reference / reference.sum()
    found = _entropy((own + other) / 2) - (_entropy(own) + _entropy(other)) / 2
    return float(np.clip(found / np.log(2), 0.0, 1.0))


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return -float(some @ np.log(some))


class Drift:
    """The codes of all models that a process runs, as gauges for Prometheus."""

    def __init__(self, half_life: int, registry: CollectorRegistry) -> None:
        """`half_life` in segments."""
        self._half_life = half_life
        self._use: dict[tuple[str, Modality], CodeUse] = {}
        self._references: dict[tuple[str, Modality], Counts] = {}
        registry.register(self)

    def watch(self, model: str, manifest: Manifest) -> None:
        """Count the codes of `model` from now on."""
        for modality in manifest.modalities:
            self._use[model, modality] = CodeUse(manifest.codebook_sizes, self._half_life)
            if modality in manifest.usage:
                self._references[model, modality] = [
                    np.array(level, float) for level in manifest.usage[modality]
                ]

    def add(self, model: str, modality: Modality, codes: NDArray[np.int64]) -> None:
        """Count `codes` [..., levels], which the graphs gave."""
        if (use := self._use.get((model, modality))) is not None:
            use.add(codes)

    def counts(self, model: str, modality: Modality) -> Counts:
        """How often each code was given, [size] for each level."""
        return self._use[model, modality].counts()

    def reference(self, model: str, modality: Modality) -> Counts | None:
        """The same of the bundle, if it says so."""
        return self._references.get((model, modality))

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What Prometheus reads. Of a modality without codes there are no figures."""
        counted, varied, used, drifted, expected, expected_used = families = [
            GaugeMetricFamily(f"tessera_codebook_{name}", description, labels=["model", "modality", "level"])
            for name, description in _FIGURES.items()
        ]
        for (model, modality), use in self._use.items():
            reference = self._references.get((model, modality))
            for level, counts in enumerate(use.counts()):
                labels = [model, modality, str(level)]
                counted.add_metric(labels, counts.sum())
                if counts.any():
                    varied.add_metric(labels, perplexity(counts))
                    used.add_metric(labels, used_ratio(counts))
                if reference is not None and reference[level].any():
                    expected.add_metric(labels, perplexity(reference[level]))
                    expected_used.add_metric(labels, used_ratio(reference[level]))
                    if counts.any():
                        drifted.add_metric(labels, divergence(counts, reference[level]))
        yield from families


_FIGURES = {
    "counted_segments": "Segments that the figures of the codebook rest on, of those that have not faded.",
    "perplexity": "How many codes, equally used, would be as varied as those that the graphs give.",
    "code_used_ratio": "Share of the codes that the graphs gave within the last half-life.",
    "drift_ratio": "Jensen-Shannon divergence of these codes from those of the bundle, in bits: 0 is none, 1 all.",
    "reference_perplexity": "Perplexity of the codes that the bundle gave when it was made.",
    "reference_code_used_ratio": "Share of the codes that the bundle gave when it was made.",
}
