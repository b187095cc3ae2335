"""Who may come in: work is admitted by what it costs; what was admitted never waits for room again.

It belongs to the event loop, so it needs no lock.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Protocol, Self

from service.costs import Cost
from service.errors import ApiError, ErrorCode
from service.settings import setting_name


class Room(Protocol):
    """What is taken of something that is bounded."""

    capacity: int

    @property
    def used(self) -> int:
        """How much is taken, by all."""

    def take(self, amount: int) -> bool:
        """Take `amount`, if there is room for it."""

    def give_back(self, amount: int) -> None:
        """Give back `amount` of what was taken."""


class OwnRoom:
    """That of one process."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0

    def take(self, amount: int) -> bool:
        """As `Room`."""
        if amount > self.capacity - self.used:
            return False
        self.used += amount
        return True

    def give_back(self, amount: int) -> None:
        """As `Room`."""
        self.used -= amount


class Admission:
    """Bounds the work of a device that was admitted, in microseconds of the device and in bytes.

    An input is admitted with room for one window and keeps it until it is answered, so it can always go on, one
    window after the other; room to decode ahead is taken only while there is some. Hence no deadlock, and the windows
    in memory never take more than there is.
    """

    def __init__(self, micros: Room, data: Room, max_request_segments: int, batch_micros: int = 0) -> None:
        """`batch_micros`: what a batch takes of the device at the most, with those that run beside it."""
        self.micros = micros
        self._batch_micros = batch_micros
        self.bytes = data
        self.max_request_segments = max_request_segments
        self.closed = False

    def admit(self, cost: Cost, seconds: float = math.inf) -> Lease:
        """Room for `cost` in a request that has so many seconds left, or a refusal at once.

        Raises:
            ApiError: `overloaded`, also where the queue is longer than the request's time; `too_many_inputs` when it
                could never fit; `shutting_down`.
        """
        if self.closed:
            raise ApiError("shutting_down", "the server is shutting down; send this to another replica")
        self._require_fit(cost)
        if self.micros.used and self._micros_to_answer(cost) > seconds * 1e6:
            raise self._overloaded("the queue is longer than the time of this request", cost.micros, seconds)
        if not self.take(cost):
            raise self._overloaded("the queue is full; try again", cost.micros, self.micros.capacity / 1e6)
        return Lease(self, cost)

    def _micros_to_answer(self, cost: Cost) -> int:
        """How long a busy device takes to come to `cost` and through it, in a batch that younger work fills up."""
        ahead = self.micros.used
        return ahead + cost.micros + min(2 * ahead, self._batch_micros)

    def _require_fit(self, cost: Cost) -> None:
        if cost.micros > self.micros.capacity:
            limit, actual = self.micros.capacity / 1e6, cost.micros / 1e6
            message = f"{actual:.3g} s of the device's time, the queue has {limit:g}"
            raise _refusal("too_many_inputs", message, limit, actual, "max_queue_seconds")
        if cost.bytes > self.bytes.capacity:
            message = f"{cost.bytes} bytes of decoded inputs, the queue has {self.bytes.capacity}"
            raise _refusal("too_many_inputs", message, self.bytes.capacity, cost.bytes, "max_queue_bytes")

    def _overloaded(self, message: str, more: int, limit: float) -> ApiError:
        waiting = (self.micros.used + more) / 1e6
        # Half of what waits will be done by then.
        retry_after = max(1, math.ceil(self.micros.used / 2e6))
        return _refusal("overloaded", message, limit, waiting, "max_queue_seconds", retry_after)

    def take(self, cost: Cost) -> bool:
        """Take room for `cost`, if there is some."""
        if not self.micros.take(cost.micros):
            return False
        if self.bytes.take(cost.bytes):
            return True
        self.micros.give_back(cost.micros)
        return False

    def require_few_segments(self, segments: int) -> None:
        """Bound the answer of one request.

        Raises:
            ApiError: `too_many_segments`.
        """
        limit = self.max_request_segments
        if segments > limit:
            message = f"the inputs of the request have more than {limit} segments together"
            raise _refusal("too_many_segments", message, limit, segments, "max_request_segments")

    @property
    def accepts(self) -> bool:
        """Whether a small request would be admitted now."""
        full = self.micros.used >= self.micros.capacity or self.bytes.used >= self.bytes.capacity
        return not (self.closed or full)


def _refusal(
    code: ErrorCode, message: str, limit: float, actual: float, setting: str, retry_after: int | None = None
) -> ApiError:
    name = setting_name(setting)
    return ApiError(code, message, limit=limit, actual=actual, setting=name, retry_after=retry_after)


class Lease:
    """The room of one request; a context manager that gives it back."""

    def __init__(self, admission: Admission, cost: Cost) -> None:
        self._admission = admission
        self._cost = cost
        self._segments = 0

    def count(self, segments: int) -> None:
        """Note that the answer of the request will hold `segments` more.

        Raises:
            ApiError: `too_many_segments`.
        """
        self._segments += segments
        self._admission.require_few_segments(self._segments)

    def extend(self, cost: Cost) -> bool:
        """Take more room if there is some."""
        if not self._admission.take(cost):
            return False
        self._cost = self._cost.plus(cost)
        return True

    def shrink(self, cost: Cost) -> None:
        """Give back a part of the room."""
        self._admission.micros.give_back(cost.micros)
        self._admission.bytes.give_back(cost.bytes)
        self._cost = self._cost.minus(cost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shrink(self._cost)
