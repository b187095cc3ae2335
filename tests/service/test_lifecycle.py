"""A server whose device dies: whoever waits is told, and the process ends so that another is started."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.service.mortal_server import DEADLY_WORDS
from tests.service.running import running_server


def test_a_device_that_dies_ends_the_process_and_everybody_is_told(bundle_dir: Path) -> None:
    with (
        running_server(bundle_dir, module="tests.service.mortal_server", streams=1, cache_bytes=0) as server,
        ThreadPoolExecutor(4) as pool,
        server.client() as client,
    ):

        def send(words: int) -> httpx.Response:
            text = " ".join(["bell"] * words)
            return httpx.post(
                f"{server.url}/tokenize", content=text, headers={"content-type": "text/plain"}, timeout=300
            )

        def waiting() -> int:
            lines = client.get("/metrics").text.splitlines()
            return int(
                float(next(line for line in lines if line.startswith("tessera_queue_items ")).split()[1])
            )

        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
        assert send(1).status_code == 200
        answers = [pool.submit(send, DEADLY_WORDS)]
        while waiting() < 1:
            time.sleep(0.01)
        answers += [pool.submit(send, words) for words in (1, 2, 3)]
        while waiting() < 4:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGUSR1)
        for answer in answers:
            response = answer.result()
            assert response.status_code == 503
            error = response.json()["error"]
            assert error["code"] == "device_lost"
            assert error["retryable"]
            assert "Traceback" not in response.text
            assert "retry-after" in response.headers
        assert server.process.wait(300) == 2
        assert server.process.stderr is not None
        said = server.process.stderr.read().splitlines()
        assert said[-1] == "tessera: the device stopped working, so the server ended; its log says why"
        assert any("a thread of the device died" in line for line in said)
