"""Whether to ask somebody who may be down."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal["closed", "open", "half_open"]
STATES: tuple[State, ...] = get_args(State)


class Breaker:
    """Closed while answers come; opened by failures in a row; half open while one more is tried."""

    def __init__(self, failures: int) -> None:
        """`failures` in a row open it."""
        self.state: State = "closed"
        self._most = failures
        self._failed = 0

    @property
    def closed(self) -> bool:
        """Whether to ask."""
        return self.state == "closed"

    def succeeded(self) -> None:
        """An answer came."""
        self._failed = 0
        self.state = "closed"

    def failed(self) -> None:
        """None came."""
        self._failed += 1
        if not self.closed or self._failed >= self._most:
            self.state = "open"

    def try_again(self) -> None:
        """Enough was waited."""
        self.state = "half_open"
