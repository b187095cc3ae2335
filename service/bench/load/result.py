"""What became of a load: every latency, every status, what was wrong, and whether the generator kept up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)

NO_ANSWER = 0
"""In place of a status: the connection was refused or lost, or patience ended."""

LATE_SEC = 0.001
LATE_SHARE = 0.1
"""The generator may be late, in the 99th percentile, by this much, or by this share of the latency measured."""


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    """`p50` ... `max`: each is the smallest value that at least that share does not exceed. Empty of nothing."""
    if not len(values):
        return {}
    found = np.percentile(values, PERCENTILES, method="inverted_cdf")
    return {_name(share): float(value) for share, value in zip(PERCENTILES, found, strict=True)}


def _name(share: float) -> str:
    return "max" if share == 100 else f"p{share:g}"


@dataclass(frozen=True)
class LoadResult:
    """One entry a request, in the order of the answers: [requests].

    `due` and `latency` are seconds, the first from the start of the load, the second from when the request was due.
    `kind` is its place in the requests of the load. `late` is how far behind schedule each was taken up, [sent].
    `held` requests waited for a connection, as all were taken. `wrong` answers were not the expected ones, `sample` is
    the beginning of the first of those or of the first refusal. `retry_after` counts the answers 503 that say so.
    `seconds` is how long requests were sent, in a closed loop how long it took to answer all; `cpu_sec` is what the
    generator itself spent.
    """

    due: NDArray[np.float64]
    latency: NDArray[np.float64]
    status: NDArray[np.int16]
    kind: NDArray[np.uint16]
    late: NDArray[np.float64]
    held: int
    wrong: int
    retry_after: int
    sample: str
    seconds: float
    cpu_sec: float

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which were answered 2xx: [requests]."""
        return np.asarray(self.status // 100 == 2)

    @property
    def rate(self) -> float:
        """Answers 2xx a second, of those that came within `seconds`."""
        return float(np.sum(self.good & (self.due + self.latency <= self.seconds)) / self.seconds)

    @property
    def all_good(self) -> bool:
        """Each request was answered 2xx, and rightly."""
        return bool(self.good.all()) and not self.wrong

    @property
    def reliable(self) -> bool:
        """The generator kept its schedule as closely as the latencies ask for."""
        if not len(self.late):
            return True
        late = percentiles(self.late)["p99"]
        return late <= max(LATE_SEC, LATE_SHARE * percentiles(self.latency)["p99"])

    def statuses(self) -> dict[str, int]:
        """How many answers of each status; `none` were not answered."""
        counts = Counter(self.status.tolist())
        return {str(status or "none"): counts[status] for status in sorted(counts)}

    def document(self) -> dict[str, Any]:
        """The figures, as JSON takes them; latencies in ms, those of answers that were not 2xx apart."""
        return {
            "requests": len(self.status),
            "rate": round(self.rate, 1),
            "statuses": self.statuses(),
            "wrong": self.wrong,
            "retry_after": self.retry_after,
            "latency_ms": _in_ms(self.latency[self.good]),
            "refused_latency_ms": _in_ms(self.latency[~self.good]),
            "late_ms": _in_ms(self.late),
            "held": self.held,
            "reliable": self.reliable,
            "client_cpu_us_per_request": round(1e6 * self.cpu_sec / max(1, len(self.status)), 1),
        }


def _in_ms(seconds: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(1000 * value, 3) for name, value in percentiles(seconds).items()}
