"""A process that serves: the socket, uvicorn, the start-up line, and a drain that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI
from prometheus_client import start_http_server

from service.app import create_app
from service.bundles import load_bundles
from service.errors import DeviceLost, StartError
from service.settings import Settings

_SWITCH_SECONDS = 0.001


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what was admitted.

    Raises:
        StartError: the address is taken.
        BundleError: no bundle, or a damaged one.
        RuntimeUnavailable: the device is not there.
        DeviceLost: a device died while it served; whoever waited was told.
    """
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # The thread of the device wants the interpreter for microseconds between two batches, and must not wait long.
    sys.setswitchinterval(_SWITCH_SECONDS)
    listener = _listen(settings.host, settings.port)
    bundles = load_bundles(settings)
    app = create_app(settings, bundles)
    config = uvicorn.Config(
        app,
        log_level="debug" if settings.log_level == "debug" else "warning",
        access_log=settings.log_level == "debug",
        timeout_graceful_shutdown=settings.drain_seconds,
        server_header=False,
        proxy_headers=False,
        ws="none",
    )
    # uvicorn raises the signal again once it is done; by then nothing is left to do but to exit cleanly.
    signal.signal(signal.SIGTERM, lambda *_: None)
    greeting = _greeting([bundle.name for bundle in bundles], _url(listener))
    with _admin(settings, app), suppress(KeyboardInterrupt):
        DrainingServer(config, app, settings, greeting).run(sockets=[listener])
    if app.state.lost.is_set():
        raise DeviceLost("the device stopped working, so the server ended; its log says why")


class DrainingServer(uvicorn.Server):
    """On SIGTERM: not ready, but serving on until balancers notice; then no admission, then the drain."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings, greeting: str) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say so."""
        await super().startup(sockets)
        # What is loaded by now stays: the collector need not look through it again and again while requests wait.
        gc.collect()
        gc.freeze()
        if self.started:
            print(self._greeting, file=sys.stderr, flush=True)

    async def on_tick(self, counter: int) -> bool:
        """Looked at ten times a second: whether to end."""
        return await super().on_tick(counter) or self._app.state.lost.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain."""
        engine = self._app.state.engine
        engine.draining = True
        if not self._app.state.lost.is_set():
            await asyncio.sleep(self._settings.shutdown_delay_seconds)
        engine.stop_admission()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError:
        raise StartError(
            f"cannot listen on {host} port {port}: the port is taken or not yours; try --port"
        ) from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _admin(settings: Settings, app: FastAPI) -> Iterator[None]:
    """Serve /metrics on the admin port, where there is one."""
    if settings.admin_port is None:
        yield
        return
    try:
        server, _ = start_http_server(settings.admin_port, settings.host, app.state.metrics.registry)
    except OSError:
        raise StartError(
            f"cannot listen on admin port {settings.admin_port}: it is taken or not yours"
        ) from None
    with server:
        yield
        server.shutdown()


def _greeting(models: Sequence[str], url: str) -> str:
    named = " and ".join(f"'{model}'" for model in models)
    return (
        f"Tessera serves {named} on {url} (documentation: {url}/docs)\n"
        f"  curl {url}/tokenize -H 'Content-Type: text/plain' -d 'a dog barks in the rain'"
    )
