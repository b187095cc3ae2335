"""Room that several processes share: each knows its own part, together they never take more than there is."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager


class FileLock:
    """A lock between processes that the system opens when its holder dies. It does not keep threads apart."""

    def __init__(self, descriptor: int) -> None:
        """Of a file that the processes share."""
        self._descriptor = descriptor

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for it, hold it."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


class SharedRoom:
    """As `service.admission.Room`, in memory that processes share. A process writes its own part only.

    What is taken is the sum of the parts: so a process that dies at any point leaves no wrong total behind, and
    whoever sees that it died gives back its part.
    """

    def __init__(self, parts: memoryview[int], own: int | None, lock: FileLock, capacity: int) -> None:
        """`parts` holds 64-bit numbers; without `own` this process only looks."""
        self.capacity = capacity
        self._parts = parts
        self._own = own
        self._lock = lock

    @property
    def used(self) -> int:
        """How much is taken, by all."""
        return sum(self._parts)

    def take(self, amount: int) -> bool:
        """Take `amount`, if there is room for it."""
        assert self._own is not None, "who only looks takes nothing. This is a bug."
        if not amount:
            return True
        with self._lock.held():
            if amount > self.capacity - sum(self._parts):
                return False
            self._parts[self._own] += amount
            return True

    def give_back(self, amount: int) -> None:
        """Give back `amount` of what this process took."""
        assert self._own is not None, "who only looks gives nothing back. This is a bug."
        self._parts[self._own] -= amount

    def clear(self, part: int) -> None:
        """Give back all that a process took which is dead."""
        self._parts[part] = 0
