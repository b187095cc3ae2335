"""Entries in the memory of this process: bounded in bytes, the least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict

OVERHEAD = 230
"""Bytes of an entry beside its key and its data: two objects, and their place in a dictionary with an order."""


class Memory:
    """All is done in constant time. It belongs to the event loop, so it needs no lock."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in bytes."""
        self.capacity = capacity
        self.bytes = 0
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> bytes | None:
        """What is kept of `key`, which is now the most recently used."""
        data = self._entries.get(key)
        if data is not None:
            self._entries.move_to_end(key)
        return data

    def put(self, key: bytes, data: bytes) -> None:
        """Keep `data`, unless it alone is too much."""
        size = _size(key, data)
        if size > self.capacity:
            return
        replaced = self._entries.pop(key, None)
        self.bytes += size - (0 if replaced is None else _size(key, replaced))
        self._entries[key] = data
        while self.bytes > self.capacity:
            self.bytes -= _size(*self._entries.popitem(last=False))


def _size(key: bytes, data: bytes) -> int:
    return OVERHEAD + len(key) + len(data)
