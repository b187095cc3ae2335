"""What is served: models with their device, their admission and their costs, made of the bundles of the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from service.admission import Admission, OwnRoom, Room
from service.bundles import LoadedBundle
from service.costs import Cost, Costs
from service.device import Device
from service.fair_queue import BatchBounds
from service.ready import ReadyClips
from service.scheduler import BatchReport, Model, Scheduler
from service.settings import Settings
from tessera.cores import available_cores
from tessera.devices import Device as Place
from tessera.opener import ClipOpener
from tessera.windows import Modality


@dataclass(frozen=True, slots=True)
class Served:
    """A model as requests meet it. Models on one device share it, and its admission."""

    name: str
    opener: ClipOpener
    device: Device
    admission: Admission
    costs: Costs
    providers: Sequence[str]

    def cost_of(self, ready: ReadyClips) -> Cost:
        """What clips cost that need no decoding."""
        micros = size = 0
        for block in ready.blocks:
            micros += block.count * self.costs.micros(block.modality, block.stage, block.segments)
            size += block.bytes
        return Cost(micros, size)

    def window_cost(self, modality: Modality) -> Cost:
        """What one whole window of audio or video costs, decoded."""
        manifest = self.opener.manifest
        segments = manifest.time_grid.window_segments
        size = 0
        if modality == "audio" and manifest.audio:
            size = round(manifest.audio.sample_rate * manifest.time_grid.hop_sec) * 4
        elif modality == "video" and manifest.video:
            size = manifest.video.frames_per_segment * manifest.video.height * manifest.video.width * 3
        return Cost(self.costs.micros(modality, "media", segments), size * segments)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Where admitted work is counted: bytes of all, microseconds of each device in the order of `places_of`."""

    data: Room
    micros: Sequence[Room]

    @classmethod
    def own(cls, settings: Settings, devices: int) -> Self:
        """Those of this process."""
        return cls(
            OwnRoom(settings.max_queue_bytes), [OwnRoom(queue_micros(settings)) for _ in range(devices)]
        )


def queue_micros(settings: Settings) -> int:
    """What may wait for a device."""
    return round(settings.max_queue_seconds * 1e6)


def batch_bounds(settings: Settings, device: Place) -> BatchBounds:
    """Of batches that run on `device`."""
    streams = settings.streams or (1 if device.is_gpu else min(2, available_cores()))
    return BatchBounds(settings.max_batch_segments, round(settings.max_batch_seconds * 1e6), streams)


def admission_of(settings: Settings, device: Place, micros: Room, data: Room) -> Admission:
    """That of a device, in rooms that others may share."""
    most = batch_bounds(settings, device)
    return Admission(micros, data, settings.max_request_segments, most.micros * most.streams)


def places_of(bundles: Sequence[LoadedBundle]) -> list[Place]:
    """The devices of `bundles`, each once."""
    return list(dict.fromkeys(bundle.tokenizer.device for bundle in bundles))


def serve_here(
    bundles: Sequence[LoadedBundle],
    settings: Settings,
    rooms: Rooms,
    *,
    costs: Callable[[str], Costs],
    on_batch: Callable[[BatchReport], None],
    on_lost: Callable[[], None],
) -> list[Served]:
    """The models of `bundles`, with a scheduler in this process for each device; `costs` makes those of a model."""
    served = []
    for device, micros in zip(places_of(bundles), rooms.micros, strict=True):
        models = [
            Model(bundle.name, bundle.tokenizer, bundle.weight, costs(bundle.name))
            for bundle in bundles
            if bundle.tokenizer.device == device
        ]
        scheduler = Scheduler(
            models,
            batch_bounds(settings, device),
            stall_seconds=settings.stall_seconds,
            canary_seconds=settings.canary_seconds,
            on_batch=on_batch,
            on_lost=on_lost,
        )
        admission = admission_of(settings, device, micros, rooms.data)
        served += [
            Served(m.name, m.tokenizer, scheduler, admission, m.costs, m.tokenizer.providers) for m in models
        ]
    order = [bundle.name for bundle in bundles]
    return sorted(served, key=lambda model: order.index(model.name))
