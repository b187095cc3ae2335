"""What is known of one request while it is answered: its id, its time, and where the time went."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SCOPE_KEY = "tessera"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def random_id() -> str:
    """An id that is not told apart by who made it; nothing rests on nobody guessing it."""
    return f"{random.getrandbits(128):032x}"


@dataclass(slots=True)
class Timings:
    """Seconds of a request, summed over its inputs; `queue` is all waiting, for a decoder or the device.

    `segments` is what its key has to pay for, whatever becomes of it.
    """

    decode: float = 0.0
    queue: float = 0.0
    infer: float = 0.0
    encode: float = 0.0
    segments: int = 0


@dataclass(slots=True)
class Trace:
    """One request; `deadline` is on the clock of `time.perf_counter`, `key` the name of the key that came along."""

    request_id: str
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    timings: Timings = field(default_factory=Timings)
    deadline: float | None = None
    expired: bool = False
    key: str | None = None

    @classmethod
    def begin(cls, scope: Any) -> Trace:
        """Attach a trace to an ASGI scope; the client's request id is taken when it is one."""
        # Once, for all who look something up: of a header that is given twice the last one counts.
        headers: dict[bytes, bytes] = dict(scope["headers"])
        asked_id = headers.get(b"x-request-id")
        accepted = asked_id is not None and _REQUEST_ID.fullmatch(asked_id.decode("latin-1"))
        trace = cls(accepted.group() if accepted else random_id(), headers)
        scope[_SCOPE_KEY] = trace
        return trace

    def header(self, name: bytes, default: str = "") -> str:
        """The header `name`, which is in lower case."""
        value = self.headers.get(name)
        return default if value is None else value.decode("latin-1")

    @staticmethod
    def of(scope: Any) -> Trace:
        """The trace of an ASGI scope."""
        trace: Trace = scope[_SCOPE_KEY]
        return trace

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.started

    def server_timing(self) -> str:
        """The value of `Server-Timing`, in milliseconds."""
        spent = self.timings
        return (
            f"decode;dur={1000 * spent.decode:.3f}, queue;dur={1000 * spent.queue:.3f}, "
            f"infer;dur={1000 * spent.infer:.3f}, encode;dur={1000 * spent.encode:.3f}, "
            f"total;dur={1000 * self.elapsed:.3f}"
        )
