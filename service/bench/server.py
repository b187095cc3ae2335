"""A real server process, and clients that keep a number of requests in flight and check every answer."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from service.bench.cases import Case
from tessera.errors import TesseraError

_ADDRESS = re.compile(r"http://([\d.]+):(\d+)")
_SERIES = re.compile(r"^(tessera_\S+) (\S+)$", re.MULTILINE)


@contextmanager
def server(bundle: str | None) -> Iterator[tuple[str, int]]:
    """A server of `bundle` on a free port, in a process of its own."""
    chosen = [] if bundle is None else ["--bundle", bundle]
    process = subprocess.Popen(
        [sys.executable, "-m", "tessera", "serve", "--port", "0", *chosen], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        try:
            said = stderr.readline()
            address = _ADDRESS.search(said)
            if address is None:
                raise TesseraError(f"the server to be measured did not start: {said.strip()}")
            yield address[1], int(address[2])
        finally:
            process.terminate()
            process.wait(60)


def metrics(host: str, port: int) -> dict[str, float]:
    """Every series of the server, by its full name."""
    connection = http.client.HTTPConnection(host, port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {name: float(value) for name, value in _SERIES.findall(text)}


def served_rate(host: str, port: int, case: Case, clients: int, seconds: float) -> tuple[float, list[float]]:
    """Windows a second that came back right with `clients` requests in flight, and each request's seconds.

    Raises:
        TesseraError: an answer was wrong; then no figure means anything.
    """
    latencies: list[float] = []
    faults: list[str] = []
    until = time.perf_counter() + seconds

    def work() -> None:
        connection = http.client.HTTPConnection(host, port)
        headers = {"content-type": case.content_type}
        while time.perf_counter() < until and not faults:
            begun = time.perf_counter()
            connection.request("POST", "/tokenize", case.body, headers)
            answer = connection.getresponse()
            body = answer.read()
            latencies.append(time.perf_counter() - begun)
            if answer.status != 200 or [entry["codes"] for entry in orjson.loads(body)["data"]] != case.codes:
                faults.append(body[:300].decode(errors="replace"))
        connection.close()

    started = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise TesseraError(f"the server answered wrongly: {faults[0]}")
    return len(latencies) * len(case.windows) / (time.perf_counter() - started), sorted(latencies)
