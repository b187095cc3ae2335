"""How far a clip is decoded ahead of the device."""

from __future__ import annotations

from service.admission import Lease
from service.costs import Cost


class ReadAhead:
    """How many windows of one clip are read at a time: one at first, then twice as many while there is room.

    Room is needed for the part that runs and for the part that is read meanwhile; a short clip takes little.
    """

    def __init__(self, lease: Lease, window: Cost, most: int) -> None:
        self.count = 1
        self._lease = lease
        self._window = window
        self._most = most
        self._held = 1

    def grow(self) -> bool:
        """Make room for the next part beside the one that runs; false when there is none."""
        for count in (min(2 * self.count, self._most), self.count):
            more = max(0, self.count + count - self._held)
            if self._lease.extend(self._window.times(more)):
                self._held += more
                self.count = count
                return True
        return False

    def release(self) -> None:
        """Give back all but the room that the clip was admitted with."""
        self._lease.shrink(self._window.times(self._held - 1))
