"""A real server process, and an application in this process for faults that a client cannot cause."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from service.app import create_app
from service.bundles import LoadedBundle
from service.costs import Costs
from service.decoding.threads import ThreadDecoding
from service.engine import Engine
from service.settings import Settings
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality, Stage


@dataclass
class RunningServer:
    """`tessera serve` in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    def client(self) -> httpx.Client:
        """A client of this server."""
        # Sooner than the server's five seconds: else both may end a connection while a request is under way.
        return httpx.Client(base_url=self.url, timeout=900, limits=httpx.Limits(keepalive_expiry=1))

    def await_ready(self) -> None:
        """Return once it can infer."""
        with self.client() as client:
            while client.get("/health/ready").status_code != 200:
                time.sleep(0.05)


def serve_command(*arguments: str, module: str = "tessera") -> list[str]:
    """The command line of a server."""
    return [sys.executable, "-m", module, "serve", *arguments]


@contextlib.contextmanager
def running_server(
    bundle: Path | None,
    *arguments: str,
    module: str = "tessera",
    variables: Mapping[str, str] | None = None,
    **settings: object,
) -> Iterator[RunningServer]:
    """Start a server of `bundle` (None: the demo) on a free port; stop it at the end.

    `settings` are in its environment, and so are other `variables`.
    """
    own = {f"TESSERA_{name.upper()}": str(value) for name, value in settings.items()}
    environment = os.environ | own | (variables or {})
    process = subprocess.Popen(
        serve_command(
            *(["--bundle", str(bundle)] if bundle else []), "--port", "0", *arguments, module=module
        ),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield RunningServer(address_of(process), process)
    finally:
        process.terminate()
        process.wait(300)
        process.stderr.close()


def address_of(process: subprocess.Popen[str]) -> str:
    """Where a server says it is, once it does."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if address := re.search(r"http://\S+?:\d+", line):
            return address.group()
    raise AssertionError("".join(said))


@dataclass
class RunningApp:
    """An application in this process, past its start-up."""

    app: FastAPI
    client: httpx.AsyncClient

    @property
    def engine(self) -> Engine:
        """Its engine."""
        engine: Engine = self.app.state.engine
        return engine


class EvenCosts(Costs):
    """A segment of anything costs a second, whatever it took: for tests of bounds."""

    def micros(self, modality: Modality, stage: Stage, segments: int) -> int:
        """As `Costs`."""
        return segments * 1_000_000


@asynccontextmanager
async def running_app(tokenizer: Tokenizer, **settings: Any) -> AsyncIterator[RunningApp]:
    """Run the application around `tokenizer`, where a segment costs a second, and graphs see every request."""
    app = create_app(
        Settings.load(**{"cache_bytes": 0, **settings}),
        [LoadedBundle("tiny", tokenizer)],
        costs=EvenCosts,
        decoding=lambda _, turns: ThreadDecoding(turns),
    )
    async with app.api.router.lifespan_context(app.api):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://tessera") as client:
            yield RunningApp(app, client)
