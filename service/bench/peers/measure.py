"""One server under load: how much it can do, then how long it takes at 70 % of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.bench.load import Closed, Load, LoadProcess, LoadResult, Open, Request
from service.bench.peers.environments import PeerFailed
from service.bench.server import Server

SHARE = 0.7
"""Of its own saturation, where latencies are measured."""

_FEW, _ENOUGH, _LONGEST = 40, 100, 4
"""Requests that a point should have, requests after which its end matters little, and how much longer it may take."""


@dataclass(frozen=True)
class Measured:
    """Requests a second at saturation, the latencies at `SHARE` of it, and what the server spent.

    `form` is how arrays were sent. `cpu_us` is processor time of all processes of the server for one item, `memory_mb`
    their memory, both at saturation.
    """

    form: str
    rate: float
    at_share: LoadResult
    ready_sec: float
    cpu_us: float
    memory_mb: float

    @property
    def quantiles(self) -> dict[str, Any]:
        """Latencies in ms, by name."""
        found: dict[str, Any] = self.at_share.document()["latency_ms"]
        return found


class Meter:
    """Measures one server with one list of requests, which are of `items` items each and in wire form `form`."""

    def __init__(
        self,
        load: LoadProcess,
        server: Server,
        requests: Sequence[Request],
        *,
        items: int,
        form: str,
        seconds: float,
    ) -> None:
        self._load, self._server, self._requests = load, server, requests
        self._items, self._form, self._seconds = items, form, seconds

    def measure(self, in_flight: int) -> Measured:
        """Saturate with `in_flight` requests, then measure at `SHARE` of that.

        Raises:
            PeerFailed: an answer was wrong, or one at saturation was missing.
        """
        warm = self._run(Closed(in_flight, min(1.0, self._seconds)))
        before = self._server.cpu_sec()
        full = self._run(Closed(in_flight, stretched(self._seconds, throughput(warm))))
        spent = self._server.cpu_sec() - before
        memory = self._server.memory_mb()
        if not full.all_good:
            raise _failure(full)
        rate = throughput(full)
        return Measured(
            form=self._form,
            rate=rate,
            at_share=self.at(SHARE * rate),
            ready_sec=self._server.ready_sec,
            cpu_us=1e6 * spent / (len(full.status) * self._items),
            memory_mb=memory,
        )

    def at(self, rate: float) -> LoadResult:
        """What becomes of `rate` requests a second that come when they come.

        Raises:
            PeerFailed: an answer was wrong, or there was none.
        """
        result = self._run(Open(rate, stretched(self._seconds, rate)))
        if result.wrong:
            raise _failure(result)
        return result

    def _run(self, arrivals: Open | Closed) -> LoadResult:
        result = self._load.run(Load(self._server.url, self._requests, arrivals))
        if not result.good.any():
            raise _failure(result)
        return result


def _failure(result: LoadResult) -> PeerFailed:
    return PeerFailed(
        f"under load: answers {result.statuses()}, {result.wrong} of them wrong; {result.sample[:200]}"
    )


def throughput(result: LoadResult) -> float:
    """Answers a second, of those that came while requests were sent.

    Where those are few it is all answers until the last one: what is under way at the end would weigh too much.
    """
    if result.rate * result.seconds >= _ENOUGH:
        return result.rate
    return len(result.status) / float((result.due + result.latency).max())


def stretched(seconds: float, rate: float) -> float:
    """How long to send `rate` requests a second: `seconds`, longer where those are few."""
    return min(max(seconds, _FEW / rate), _LONGEST * seconds)
