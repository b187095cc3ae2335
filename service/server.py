"""A process that serves: the socket, uvicorn, the start-up line, and a drain that loses nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import cast

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server

from service.allocator import keep_little
from service.app import Application, create_app
from service.bundles import load_bundles
from service.connections import Bounds, Connection
from service.errors import DeviceLost, StartError
from service.logs import begin_logs, say, structured
from service.security.key_ring import KeyRing
from service.security.protection import warnings_of
from service.settings import Settings
from service.tracing import require_tracing, tracing_here

_log = logging.getLogger(__name__)
_SWITCH_SECONDS = 0.001
_CHECK_SECONDS = 1.0
_LAST_SPANS_SECONDS = 3.0
"""However slow a collector is, the end of a server does not wait for it longer."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what was admitted.

    Raises:
        StartError: the address is taken.
        BundleError: no bundle, or a damaged one.
        RuntimeUnavailable: the device is not there.
        DeviceLost: a device died while it served; whoever waited was told.
    """
    begin_process(settings)
    require_tracing()
    listener = listen(settings.host, settings.port)
    bundles = load_bundles(settings)
    app = create_app(settings, bundles, tracing=tracing_here())
    # uvicorn raises the signal again once it is done; by then nothing is left to do but to exit cleanly.
    signal.signal(signal.SIGTERM, lambda *_: None)
    greet = partial(greeting, [bundle.name for bundle in bundles], listener, settings, app.keys)
    with admin(settings, app.state.metrics.registry), suppress(KeyboardInterrupt):
        DrainingServer(app, settings, greet).run(sockets=[listener])
    if app.state.lost.is_set():
        raise DeviceLost("the device stopped working, so the server ended; its log says why")


class DrainingServer(uvicorn.Server):
    """On SIGTERM: not ready, but serving on until balancers notice; then no admission, then the drain."""

    def __init__(
        self,
        app: Application,
        settings: Settings,
        on_listening: Callable[[], None],
        *,
        connections: int | None = None,
    ) -> None:
        """It takes so many `connections`, or those of the settings."""
        bounds = Bounds.of(settings, connections or settings.max_connections, app.refuse)
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], partial(Connection, bounds)),
                log_config=None,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=settings.drain_seconds,
                server_header=False,
                proxy_headers=False,
                ws="none",
            )
        )
        self._app = app
        self._settings = settings
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        self._checks = asyncio.create_task(self._check_connections())
        # What is loaded by now stays: the collector need not look through it again and again while requests wait.
        gc.collect()
        gc.freeze()
        if self.started:
            self._on_listening()

    async def on_tick(self, counter: int) -> bool:
        """Looked at ten times a second: whether to end."""
        return await super().on_tick(counter) or self._app.state.lost.is_set()

    async def _check_connections(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)
                connection.check(loop.time())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain; what was not told to the collector by then is told in the time that is left, or lost."""
        engine = self._app.state.engine
        engine.draining = True
        if not self._app.state.lost.is_set():
            await asyncio.sleep(self._settings.shutdown_delay_seconds)
        engine.stop_admission()
        until = time.monotonic() + self._settings.drain_seconds
        await super().shutdown(sockets)
        self._checks.cancel()
        if self._app.tracing is not None:
            seconds = min(_LAST_SPANS_SECONDS, max(0.0, until - time.monotonic()))
            await asyncio.to_thread(self._app.tracing.close, seconds)


def begin_process(settings: Settings) -> None:
    """Log to stderr, keep little memory that is free, let threads take turns often, and allow many connections."""
    keep_little()
    begin_logs(settings.log_format, settings.log_level)
    # The thread of the device wants the interpreter for microseconds between two batches, and must not wait long.
    sys.setswitchinterval(_SWITCH_SECONDS)
    if sys.platform != "win32":
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        # macOS says that there is no limit, and refuses to have none.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that takes connections; `shared`, several may have one port, and each gets a part of them.

    Raises:
        StartError: the address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048, reuse_port=shared)
    except OSError:
        raise StartError(
            f"cannot listen on {host} port {port}: the port is taken or not yours; try --port"
        ) from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def admin(settings: Settings, registry: CollectorRegistry) -> Iterator[None]:
    """Serve /metrics on the admin port, where there is one.

    Raises:
        StartError: the port is taken.
    """
    if settings.admin_port is None:
        yield
        return
    try:
        server, _ = start_http_server(settings.admin_port, settings.host, registry)
    except OSError:
        raise StartError(
            f"cannot listen on admin port {settings.admin_port}: it is taken or not yours"
        ) from None
    with server:
        yield
        server.shutdown()


def greeting(
    models: Sequence[str], listener: socket.socket, settings: Settings, keys: KeyRing | None
) -> None:
    """What a server says once it takes connections, and to whom it answers."""
    for warning in warnings_of(settings, keys):
        _log.warning(warning)
    url = _url(listener)
    named = " and ".join(f"'{model}'" for model in models)
    who, key = (
        ("whoever reaches it may ask: it has no keys", "")
        if keys is None
        else (f"one of {len(keys)} keys opens it", " -H 'X-API-Key: tsr_...'")
    )
    if structured():
        say(f"Tessera serves {named} on {url}; {who}", url=url)
        return
    print(
        f"Tessera serves {named} on {url} (documentation: {url}/docs); {who}\n"
        f"  curl {url}/tokenize{key} -H 'Content-Type: text/plain' -d 'a dog barks in the rain'",
        file=sys.stderr,
        flush=True,
    )
