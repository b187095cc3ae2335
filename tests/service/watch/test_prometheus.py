"""What the real Prometheus and its promtool make of the metrics."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import require
from tests.service.running import running_server

SENT = 7
WAYS = [(frontends, admin) for frontends in (1, 2) for admin in (False, True)]
"""Front ends, and whether /metrics has a port of its own."""


def program(name: str) -> Path:
    return require(shutil.which(name), f"the {name} of Debian", "prometheus")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.05)


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[httpx.Client]:
    """One that scrapes `targets`, addresses by job, once a second; a client of its API."""
    jobs = "".join(
        f"  - job_name: {job}\n    static_configs:\n      - targets: ['{target}']\n"
        for job, target in targets.items()
    )
    config = f"global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n{jobs}"
    (folder / "prometheus.yml").write_text(config)
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(program("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=60) as client:
            until(lambda: answers(client))
            yield client
    finally:
        process.terminate()
        process.wait(60)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/status/buildinfo").status_code == 200
    except httpx.TransportError:
        return False


def asked(client: httpx.Client, query: str) -> dict[str, float]:
    """The answer by job."""
    document: Any = client.get("/query", params={"query": query}).raise_for_status().json()
    return {each["metric"]["job"]: float(each["value"][1]) for each in document["data"]["result"]}


def test_the_real_prometheus_reads_them_whoever_serves_them(bundle_dir: Path, tmp_path: Path) -> None:
    program("prometheus")
    with ExitStack() as stack:
        targets, exposed = {}, {}
        for frontends, admin in WAYS:
            port = free_port()
            settings = {"cache_bytes": 0} | ({"admin_port": port} if admin else {})
            server = stack.enter_context(
                running_server(bundle_dir, "--frontends", str(frontends), **settings)
            )
            for _ in range(SENT):
                with server.client() as client:  # a connection each: both front ends have some
                    answer = client.post(
                        "/tokenize", content="a dog barks", headers={"content-type": "text/plain"}
                    )
                    assert answer.status_code == 200
            job = f"{frontends}-{'admin' if admin else 'main'}"
            targets[job] = f"127.0.0.1:{port}" if admin else server.url.removeprefix("http://")
            exposed[job] = httpx.get(f"http://{targets[job]}/metrics").raise_for_status().text
        found = stack.enter_context(prometheus(tmp_path, targets))
        everywhere = dict.fromkeys(targets, 1.0)
        until(lambda: asked(found, "up") == everywhere)
        until(lambda: asked(found, "tessera_ready") == everywhere)
        counted = 'sum by (job) (tessera_requests_total{route="/tokenize",code="200"})'
        segments = 'sum by (job) (tessera_codebook_counted_segments{modality="text"})'
        # A scrape that takes too long on a busy machine leaves no series until the next.
        until(lambda: asked(found, counted) == dict.fromkeys(targets, SENT))
        until(lambda: asked(found, "sum by (job) (tessera_items_total)") == dict.fromkeys(targets, SENT))
        until(lambda: asked(found, segments) == pytest.approx(dict.fromkeys(targets, 3 * SENT), rel=1e-3))
        # No ratio is added up over processes.
        ratio = 'max by (job) (tessera_codebook_code_used_ratio{modality="text"} <= 1) > 0'
        until(lambda: asked(found, ratio).keys() == targets.keys())
    for text in exposed.values():
        check = subprocess.run(
            [str(program("promtool")), "check", "metrics"], input=text, capture_output=True, text=True
        )
        assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
