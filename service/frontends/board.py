"""Memory that the owner of the devices and its front ends share: health, costs, and who holds how much room."""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from typing import get_args

from service.costs import Costs
from service.frontends.room import FileLock, SharedRoom
from service.security.rates import RATES_BYTES, Rates
from service.serving import Rooms, queue_micros
from service.settings import Settings
from tessera.windows import MODALITIES, Modality, Stage

_WAYS: dict[tuple[Modality, Stage], int] = {
    way: number
    for number, way in enumerate((modality, stage) for modality in MODALITIES for stage in get_args(Stage))
}


@dataclass(frozen=True, slots=True)
class BoardShape:
    """How much there is to be shared."""

    models: int
    devices: int
    front_ends: int

    @property
    def rooms(self) -> int:
        """Bodies, decoded inputs, and the time of each device."""
        return 2 + self.devices

    @property
    def bytes(self) -> int:
        """Each number takes eight."""
        numbers = 1 + 2 * self.devices + len(_WAYS) * self.models + self.rooms * self.front_ends
        return 8 * numbers + RATES_BYTES


class Board:
    """Each number is written by one process; reading one needs no lock, as it is whole at any time.

    The rates of keys are written by all, each under the lock.
    """

    def __init__(self, descriptor: int, shape: BoardShape, settings: Settings, own: int | None) -> None:
        """`own` is the number of this front end; the owner has none."""
        self.descriptor = descriptor
        view = memoryview(mmap.mmap(descriptor, shape.bytes))
        rates = 8 * (1 + 2 * shape.devices)
        rooms = rates + 8 * len(_WAYS) * shape.models
        self._shape = shape
        self._beat = view[:8].cast("d")
        self._flags = view[8:rates].cast("q")
        self._rates = view[rates:rooms].cast("d")
        lock = FileLock(descriptor)

        def room(number: int, capacity: int) -> SharedRoom:
            start = rooms + 8 * number * shape.front_ends
            return SharedRoom(view[start : start + 8 * shape.front_ends].cast("q"), own, lock, capacity)

        self.bodies = room(0, settings.max_held_bytes)
        self._data = room(1, settings.max_queue_bytes)
        self._micros = [room(2 + n, queue_micros(settings)) for n in range(shape.devices)]
        self.key_rates = Rates(view[-RATES_BYTES:], settings, lock.held)

    @classmethod
    def made(cls, shape: BoardShape, settings: Settings) -> Board:
        """That of the owner, in memory without a name."""
        descriptor = os.memfd_create("tessera")
        os.truncate(descriptor, shape.bytes)
        return cls(descriptor, shape, settings, None)

    @property
    def rooms(self) -> Rooms:
        """Those that `service.admission` takes from."""
        return Rooms(self._data, self._micros)

    def clear(self, front_end: int) -> None:
        """Give back the room of a front end that is dead."""
        for room in (self.bodies, self._data, *self._micros):
            room.clear(front_end)

    def beat(self) -> None:
        """Show that the owner's event loop runs."""
        self._beat[0] = time.monotonic()

    @property
    def beat_age(self) -> float:
        """Seconds since the last beat; processes of one machine share that clock."""
        return time.monotonic() - self._beat[0]

    def show(self, device: int, *, warm: bool, alive: bool) -> None:
        """Set what is true of a device."""
        self._flags[2 * device], self._flags[2 * device + 1] = warm, alive

    def warm(self, device: int) -> bool:
        """What the owner showed."""
        return bool(self._flags[2 * device])

    def alive(self, device: int) -> bool:
        """What the owner showed."""
        return bool(self._flags[2 * device + 1])

    def costs(self, model: int) -> SharedCosts:
        """Those of a model."""
        return SharedCosts(self._rates[len(_WAYS) * model : len(_WAYS) * (model + 1)])


class SharedCosts(Costs):
    """Microseconds of a segment, learnt by the owner and read by front ends."""

    def __init__(self, rates: memoryview[float]) -> None:
        super().__init__()
        self._rates = rates

    def observe(self, modality: Modality, stage: Stage, segments: int, seconds: float) -> None:
        """As `Costs`; what was learnt is shown to all."""
        super().observe(modality, stage, segments, seconds)
        self._rates[_WAYS[modality, stage]] = self.rate(modality, stage)

    def micros(self, modality: Modality, stage: Stage, segments: int) -> int:
        """As `Costs`."""
        rate = self._rates[_WAYS[modality, stage]] or self.rate(modality, stage)
        return max(1, round(segments * rate))
