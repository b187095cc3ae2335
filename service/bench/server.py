"""A real server in processes of its own: how soon it is ready, what it spends, and what it says of itself."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import psutil

from service.bench.load import Request
from tessera.errors import TesseraError

_ADDRESS = re.compile(r"http://([\d.]+):(\d+)")
_SERIES = re.compile(r"^(tessera_\S+) (\S+)$", re.MULTILINE)
_POLL_SEC = 0.005
_START_SEC = 300.0
_UNCACHED = {"TESSERA_CACHE_BYTES": "0"}
"""The same few requests are sent again and again, and it is the graphs that are measured."""


@dataclass(frozen=True)
class Server:
    """A server that is ready, `ready_sec` after its process was started."""

    host: str
    port: int
    process: psutil.Process
    ready_sec: float

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.host}:{self.port}"

    def cpu_sec(self) -> float:
        """Processor seconds that its processes have spent, to a hundredth."""
        spent = 0.0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent += times.user + times.system
        return spent

    def memory_mb(self) -> float:
        """Resident memory of its processes; pages that they share count once, where the system tells."""
        held = 0.0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                known = process.memory_full_info()
                held += getattr(known, "pss", known.rss) / 1e6
        return held

    def metrics(self) -> dict[str, float]:
        """Every series, by its full name."""
        _, body = self.send(Request("/metrics", method="GET"))
        return {name: float(value) for name, value in _SERIES.findall(body.decode())}

    def send(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the answer to one request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def accepted(self, request: Request) -> Request | None:
        """`request` with the end of its right answer, which makes each answer cheap to check; None if of no such type.

        Raises:
            TesseraError: the answer is wrong.
        """
        status, body = self.send(request)
        if status == 415:
            return None
        ending = body[body.find(b'"data"') :]
        right = status == 200 and (request.check is None or request.check(body))
        if not right:
            raise TesseraError(f"the server answered wrongly: {body[:300].decode(errors='replace')}")
        return replace(request, ending=ending)

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def server(
    bundle: str | None, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server of `bundle` on a free port, once it is ready; it computes all that it is asked, unless told otherwise.

    Raises:
        TesseraError: it did not start.
    """
    chosen = [] if bundle is None else ["--bundle", bundle]
    command = [sys.executable, "-m", "tessera", "serve", "--port", "0", *chosen, *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **_UNCACHED, **(environment or {})}
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        try:
            said = stderr.readline()
            address = _ADDRESS.search(said)
            if address is None:
                raise TesseraError(f"the server to be measured did not start: {said.strip()}")
            # What it logs later must not fill the pipe.
            threading.Thread(target=stderr.read, daemon=True).start()
            found = Server(address[1], int(address[2]), psutil.Process(process.pid), 0.0)
            _await_ready(found, started + _START_SEC)
            yield replace(found, ready_sec=time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait(60)


def _await_ready(found: Server, until: float) -> None:
    while found.send(Request("/health/ready", method="GET"))[0] != 200:
        if time.perf_counter() > until:
            raise TesseraError("the server to be measured is not ready after five minutes")
        time.sleep(_POLL_SEC)
