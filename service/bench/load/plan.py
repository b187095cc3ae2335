"""What is sent, and when: plain data that can be handed to another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Request:
    """One request, and what is right as an answer.

    Every answer with status 2xx must end with `ending`, which costs a comparison of bytes; `check` looks at the whole
    body of one in fifty and says whether it is right. Both must hold. `check` has to be picklable.
    """

    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    ending: bytes = b""
    check: Callable[[bytes], bool] | None = None

    def rendered(self, host: str) -> bytes:
        """The bytes on the wire."""
        headers = {"host": host, "content-length": str(len(self.body))} | {
            name.lower(): value for name, value in self.headers.items()
        }
        lines = [
            f"{self.method} {self.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True)
class Open:
    """`rate` requests a second for `seconds`, each sent when it is due, answered or not what went before.

    Arrivals are those of a Poisson process, the same for the same `seed`; evenly spaced where `seed` is None.
    """

    rate: float
    seconds: float
    seed: int | None = 0

    def due(self) -> NDArray[np.float64]:
        """When each request is due, seconds from the start, rising."""
        count = max(1, round(self.rate * self.seconds))
        if self.seed is None:
            return np.arange(count) / self.rate
        # Given how many there are, the arrivals of a Poisson process are uniform.
        return np.sort(np.random.default_rng(self.seed).uniform(0, self.seconds, count))


@dataclass(frozen=True)
class Closed:
    """`in_flight` requests at any time for `seconds`: the next is sent when one is answered."""

    in_flight: int
    seconds: float


@dataclass(frozen=True)
class Load:
    """`requests` in a random but repeatable order against the server at `url`.

    Of an open loop at most `connections` wait for an answer; what is due then waits here, and its latency counts.
    `patience` is how long the last answers are waited for, in seconds.
    """

    url: str
    requests: Sequence[Request]
    arrivals: Open | Closed
    connections: int = 1024
    patience: float = 30.0

    @property
    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            ValueError: the URL is not plain http.
        """
        parts = urlsplit(self.url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"'{self.url}' is not a http:// URL")
        return parts.hostname, parts.port or 80

    def order(self, count: int) -> list[int]:
        """Which of `requests` is sent first, second ..."""
        if len(self.requests) == 1:
            return [0] * count
        return [int(n) for n in np.random.default_rng(1).integers(len(self.requests), size=count)]
