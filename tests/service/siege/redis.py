"""A real Redis that is killed, frozen and started again."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from tests.conftest import require


class Redis:
    """`redis-server` on a port of its own, in memory alone."""

    def __init__(self) -> None:
        self._program = str(require(shutil.which("redis-server"), "a Redis", "redis-server"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self.harm: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Where it is, if it is."""
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it, with nothing in it."""
        options = ("--port", str(self._port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1")
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    @asynccontextmanager
    async def harmed(self, draw: random.Random) -> AsyncIterator[None]:
        """Stop, freeze and start it at random while the context lasts; then it runs."""
        task = asyncio.create_task(self._harm(draw))
        try:
            yield
        finally:
            task.cancel()

    async def _harm(self, draw: random.Random) -> None:
        while True:
            await asyncio.sleep(draw.uniform(0.02, 0.3))
            deed, seconds = draw.choice(["killed", "stopped", "frozen"]), draw.uniform(0.05, 0.5)
            self.harm[deed] += 1
            if deed == "frozen":
                await self._freeze(seconds)
            else:
                self.stop(signal.SIGKILL if deed == "killed" else signal.SIGTERM)
                try:
                    await asyncio.sleep(seconds)
                finally:
                    self.start()

    async def _freeze(self, seconds: float) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis() -> Iterator[Redis]:
    """One that runs."""
    redis = Redis()
    redis.start()
    try:
        yield redis
    finally:
        redis.stop()
