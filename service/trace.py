"""What is known of one request while it is answered: its id, its time, and where the time went."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from service.errors import ApiError

Stage = Literal["decode", "queue", "infer", "encode"]

_SCOPE_KEY = "tessera"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MOST_NOTES = 128
"""Notes of one request; a long film is hundreds of batches."""


def random_id() -> str:
    """An id that is not told apart by who made it; nothing rests on nobody guessing it."""
    return f"{random.getrandbits(128):032x}"


class Note(NamedTuple):
    """When a stage took place, on the clock of `time.perf_counter`; `place` is that of its input, if it is of one."""

    stage: Stage
    started: float
    ended: float
    place: int | None = None


class Span(Protocol):
    """That of a request, in a distributed trace."""

    @property
    def trace_id(self) -> str:
        """In hexadecimal."""


@dataclass(slots=True)
class Timings:
    """Seconds of a request, summed over its inputs; `queue` is all waiting, for a decoder or the device.

    `notes` says when each was spent, where somebody wants to know; `unnoted` counts those for which there was no room.
    `segments` is what its key has to pay for, whatever becomes of it.
    """

    decode: float = 0.0
    queue: float = 0.0
    infer: float = 0.0
    encode: float = 0.0
    segments: int = 0
    notes: list[Note] | None = None
    unnoted: int = 0

    def took(self, stage: Stage, started: float, place: int | None = None) -> None:
        """Add what a stage took that ends now."""
        ended = time.perf_counter()
        setattr(self, stage, getattr(self, stage) + ended - started)
        self.note(stage, started, ended, place)

    def note(self, stage: Stage, started: float, ended: float, place: int | None = None) -> None:
        """Note when a stage took place; not for ever many of them."""
        if self.notes is None or ended <= started:
            return
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(Note(stage, started, ended, place))
        else:
            self.unnoted += 1


@dataclass(slots=True)
class Trace:
    """One request; `deadline` is on the clock of `time.perf_counter`. What it asks for is known once it was read.

    `task` is what answers it. `hold` counts bytes of the answer, until the request is over, as those of bodies are.
    `key` is the name of the key that came along.
    """

    request_id: str
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    timings: Timings = field(default_factory=Timings)
    deadline: float | None = None
    task: asyncio.Task[object] | None = None
    expired: ApiError | None = None
    hold: Callable[[int], None] = lambda size: None
    model: str | None = None
    items: int = 0
    segments: int = 0
    error: str | None = None
    span: Span | None = None
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
        CURRENT.set(trace)
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

    @staticmethod
    def find(scope: Any) -> Trace | None:
        """The trace of an ASGI scope, once there is one."""
        trace: Trace | None = scope.get(_SCOPE_KEY)
        return trace

    def expire(self, error: ApiError) -> bool:
        """Answer `error` in place of what the request asks for; false where one expired already, or it is too soon."""
        if self.expired or self.task is None:
            return False
        self.expired = error
        self.task.cancel()
        return True

    @property
    def elapsed(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self.started

    @property
    def trace_id(self) -> str | None:
        """That of the distributed trace, in hexadecimal: of our span, or of the client's."""
        if self.span is not None:
            return self.span.trace_id
        parent = _TRACEPARENT.fullmatch(self.header(b"traceparent"))
        return parent[1] if parent else None

    def server_timing(self) -> str:
        """The value of `Server-Timing`, in milliseconds."""
        spent = self.timings
        return (
            f"decode;dur={1000 * spent.decode:.3f}, queue;dur={1000 * spent.queue:.3f}, "
            f"infer;dur={1000 * spent.infer:.3f}, encode;dur={1000 * spent.encode:.3f}, "
            f"total;dur={1000 * self.elapsed:.3f}"
        )


CURRENT: ContextVar[Trace | None] = ContextVar("tessera_request", default=None)
"""The request that this task, or a thread that it waits for, works on; for whoever logs."""
