"""Who may come in: work is admitted by its cost in segments; what was admitted never waits for room again."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from service.errors import ApiError, ErrorCode
from service.settings import setting_name


class Admission:
    """Counts the cost of admitted work. It belongs to the event loop, so it needs no lock.

    An input is admitted with room for one window and keeps it until it is answered, so it can always go on,
    one window after the other; room to decode ahead is taken only while there is some. Hence no deadlock, and
    the windows of media in memory never cost more than `capacity`.
    """

    def __init__(self, capacity: int, max_request_segments: int) -> None:
        self.capacity = capacity
        self.max_request_segments = max_request_segments
        self.used = 0
        self.closed = False

    def admit(self, cost: int) -> Lease:
        """Room for `cost` segments, or a refusal at once.

        Raises:
            ApiError: `overloaded`; `too_many_inputs` when it could never fit; `shutting_down`.
        """
        if self.closed:
            raise ApiError("shutting_down", "the server is shutting down; send this to another replica")
        if cost > self.capacity:
            raise self._full(
                "too_many_inputs", f"room for {cost} segments, the queue has {self.capacity}", cost
            )
        if cost > self.capacity - self.used:
            raise self._full("overloaded", "the queue is full; try again", self.used + cost)
        self.used += cost
        return Lease(self, cost)

    def _full(self, code: ErrorCode, message: str, actual: int) -> ApiError:
        setting = setting_name("max_queue_segments")
        return ApiError(code, message, limit=self.capacity, actual=actual, setting=setting)

    @property
    def accepts(self) -> bool:
        """Whether a small request would be admitted now."""
        return not self.closed and self.used < self.capacity


class Lease:
    """The room of one request; a context manager that gives it back."""

    def __init__(self, admission: Admission, cost: int) -> None:
        self._admission = admission
        self._cost = cost
        self._segments = 0

    def count(self, segments: int) -> None:
        """Note that the answer of the request will hold `segments` more.

        Raises:
            ApiError: `too_many_segments`.
        """
        self._segments += segments
        limit = self._admission.max_request_segments
        if self._segments > limit:
            raise ApiError(
                "too_many_segments",
                f"the inputs of the request have more than {limit} segments together",
                limit=limit,
                actual=self._segments,
                setting=setting_name("max_request_segments"),
            )

    def extend(self, cost: int) -> bool:
        """Take more room if there is some."""
        if cost > self._admission.capacity - self._admission.used:
            return False
        self._admission.used += cost
        self._cost += cost
        return True

    def shrink(self, cost: int) -> None:
        """Give back a part of the room."""
        self._admission.used -= cost
        self._cost -= cost

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shrink(self._cost)
