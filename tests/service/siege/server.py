"""A real server under siege: its processes, its log, its memory, and decoders that die."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import httpx
import psutil

from service.settings import Settings
from tests.service.decoding.reading import decoder_processes
from tests.service.running import RunningServer, running_server
from tests.service.siege.requests import MAX_BODY_BYTES
from tests.service.test_promises import metric

LIMITS: dict[str, object] = {
    "max_body_bytes": MAX_BODY_BYTES,
    "max_held_bytes": 16 * MAX_BODY_BYTES,
    "max_queue_bytes": 2**28,
    "decode_memory_mb": 256,
    "decode_seconds": 20,
    "max_connections": 1000,
    "max_silence_seconds": 2,
    "max_transfer_seconds": 20,
    "cache_bytes": 0,
}
"""Small ones, so that they are reached; and nothing is answered from a cache, but where that is what is besieged."""

_EVERY_SEC = 0.25
_CONNECTION_MB = 0.5
"""What is read at once of a connection, twice."""

_KEPT_MB = 192.0
"""What a process that serves may keep after it was under siege, beyond what it began with: arenas of graphs and of
allocators, which keep what the largest batch and the most connections took."""


@dataclass
class Besieged:
    """A server, what it said, and what it held."""

    running: RunningServer
    log: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.running.url

    @property
    def process(self) -> psutil.Process:
        """The one that was started."""
        return psutil.Process(self.running.process.pid)

    def tree(self) -> list[psutil.Process]:
        """All its processes."""
        with suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def decoders(self) -> list[psutil.Process]:
        """Those that decode now: below the process that was started, or below its front ends."""
        found = []
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                found += decoder_processes(process.pid)
        return found

    def held_mb(self) -> float:
        """Memory of all processes; pages that they share count once."""
        held = 0.0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                held += process.memory_full_info().pss / 1e6
        return held

    def deaths(self) -> int:
        """Decoders that died at work, by what its log says."""
        return sum("a decoder died" in line for line in self.log)

    def faults(self) -> list[str]:
        """What its log says of faults of its own."""
        return [line for line in self.log if "Traceback" in line or "Exception in ASGI" in line]

    def settle(self) -> None:
        """Wait until nothing is held any more; the caller's patience ends a wait in vain."""
        with self.running.client() as client:
            for name in ("tessera_held_bytes", "tessera_queue_bytes", "tessera_queue_cost_seconds"):
                while metric(client, name) > 0:
                    time.sleep(0.05)


@contextmanager
def besieged(
    bundle: Path | None, frontends: int, *arguments: str, module: str = "tessera", **settings: object
) -> Iterator[Besieged]:
    """A server that is ready; its memory is looked at four times a second."""
    chosen = ("--frontends", str(frontends), *arguments)
    with running_server(bundle, *chosen, module=module, **LIMITS | settings) as running:
        server, over = Besieged(running), threading.Event()

        def listen() -> None:
            assert running.process.stderr is not None
            server.log.extend(running.process.stderr)

        def weigh() -> None:
            while not over.wait(_EVERY_SEC):
                server.memory_mb.append(server.held_mb())

        threads = [threading.Thread(target=work) for work in (listen, weigh)]
        try:
            with running.client() as client:
                while client.get("/health/ready").status_code != 200:
                    time.sleep(0.01)
            for thread in threads:
                thread.start()
            yield server
        finally:
            over.set()
            running.process.terminate()
            for thread in threads:
                thread.join()


class Scale:
    """Memory of a server against the sum of its limits, whatever was sent and however much of it."""

    def __init__(self, server: Besieged, frontends: int) -> None:
        self._server = server
        self._before = server.held_mb()
        limits = {name: float(str(value)) for name, value in LIMITS.items()}
        decoders = max(Settings().workers, frontends)
        most = limits["decode_memory_mb"] * decoders + _CONNECTION_MB * limits["max_connections"]
        most += (limits["max_held_bytes"] + limits["max_queue_bytes"]) / 1e6
        self._most_allowed = self._before + most
        self._after_allowed = self._before + _KEPT_MB * (1 if frontends == 1 else 1 + frontends)

    @cached_property
    def _after(self) -> float:
        """When all was answered."""
        self._server.settle()
        return self._server.held_mb()

    def document(self) -> dict[str, float]:
        """The figures, in MB."""
        figures = {
            "before": self._before,
            "most": max(self._server.memory_mb),
            "most_allowed": self._most_allowed,
            "after": self._after,
            "after_allowed": self._after_allowed,
        }
        return {name: round(value, 1) for name, value in figures.items()}

    def excess(self) -> list[str]:
        """What is too much."""
        mb = self.document()
        return [
            f"memory: {mb[name]} MB {name}, {mb[f'{name}_allowed']} are allowed"
            for name in ("most", "after")
            if mb[name] > mb[f"{name}_allowed"]
        ]


@dataclass
class Killer:
    """Kills a decoder now and then."""

    server: Besieged
    draw: random.Random
    killed: int = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """While the context lasts."""
        task = asyncio.create_task(self._kill())
        try:
            yield
        finally:
            task.cancel()

    async def _kill(self) -> None:
        while True:
            if decoders := await asyncio.to_thread(self.server.decoders):
                with suppress(psutil.NoSuchProcess):
                    self.draw.choice(decoders).kill()
                    self.killed += 1
            await asyncio.sleep(self.draw.uniform(0.05, 0.3))


async def until_metric(server: Besieged, name: str, least: float) -> None:
    """Wait until a series of /metrics is at least so much."""
    async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
        while True:
            text = (await client.get("/metrics")).text
            line = next((line for line in text.splitlines() if line.startswith(f"{name} ")), f"{name} 0")
            if float(line.rpartition(" ")[2]) >= least:
                return
            await asyncio.sleep(0.02)
