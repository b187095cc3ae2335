"""A peer in processes of its own: started, asked until it answers rightly, and ended whole."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from service.bench.load import Request
from service.bench.peers.catalogue import Peer, Plan
from service.bench.peers.environments import PeerFailed, last_words
from service.bench.server import Server

START_SEC, STOP_SEC = 120.0, 20.0
_POLL_SEC = 0.05


@contextmanager
def running(peer: Peer, python: Path, plan: Plan, probes: Sequence[Request]) -> Iterator[tuple[Server, int]]:
    """Start `peer` and wait until it answers one of `probes` rightly, and say which; at the end nothing of it is left.

    Raises:
        PeerFailed: it ended, or did not answer in time, or wrongly.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(python), *peer.arguments(plan)],
            env=peer.environment(plan),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server("127.0.0.1", plan.port, psutil.Process(process.pid), 0.0)
        try:
            try:
                answered = _await_answer(process, server, probes)
            except PeerFailed as failure:
                log.seek(0)
                raise PeerFailed(f"{failure}; its log: {last_words(log.read())}") from None
            yield replace(server, ready_sec=time.perf_counter() - started), answered
        finally:
            _end(process)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await_answer(process: subprocess.Popen[bytes], server: Server, probes: Sequence[Request]) -> int:
    until = time.perf_counter() + START_SEC
    said = "nothing"
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise PeerFailed(f"it ended with status {process.returncode}")
        for index, probe in enumerate(probes):
            try:
                status, answer = server.send(probe)
            except (OSError, http.client.HTTPException):
                break
            if status == 200:
                _require_right(probe, answer)
                return index
            said = f"{status} {answer[:200]!r}"
            if status >= 500:  # it is not ready, which says nothing of the form
                break
        time.sleep(_POLL_SEC)
    raise PeerFailed(f"it gave no answer within {START_SEC:.0f} s, but {said}")


def _require_right(request: Request, answer: bytes) -> None:
    if not answer.endswith(request.ending) or not (request.check is None or request.check(answer)):
        raise PeerFailed(f"it answers wrongly, {answer[:100]!r}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, then make it: some leave processes behind, in sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        main = psutil.Process(process.pid)
        family = [main, *main.children(recursive=True)]
        os.killpg(process.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=STOP_SEC)
        for left in alive:
            with suppress(psutil.NoSuchProcess):
                left.kill()
    process.wait()
