"""The README is true: its requests, run against a real server, have the answers it shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera import Tokenizer
from tessera.scores import percent
from tests.conftest import require
from tests.service.running import RunningServer, running_server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ANSWERED = re.findall(r"^\$ (curl .*)\n(\{.*\})$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(None) as running:
        yield running


def run(command: str, server: RunningServer) -> dict[str, object]:
    require(shutil.which("curl"), "curl", "curl")
    address = server.url.removeprefix("http://")
    shell = ["bash", "-c", command.replace("localhost:8000", address)]
    done = subprocess.run(shell, capture_output=True, text=True, cwd=ROOT, timeout=900)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(("command", "shown"), ANSWERED, ids=["wav", "mp4", "sentence"])
def test_a_request_has_the_answer_that_is_shown(server: RunningServer, command: str, shown: str) -> None:
    answer, expected = run(command, server), json.loads(shown)
    assert answer.keys() == expected.keys()
    for name in ("model", "object", "data", "usage"):
        assert answer[name] == expected[name]


def test_the_longer_requests_work(server: RunningServer) -> None:
    (tokenize,) = re.findall(r"^\$ (curl \S+ \S+ -F .*?)\n\$", README, re.MULTILINE | re.DOTALL)
    answer = run(tokenize, server)
    assert [entry["id"] for entry in answer["data"]] == ["a", "b"]  # type: ignore[attr-defined]
    (detokenize,) = re.findall(r"^\$ (curl \S+ localhost:8000/detokenize .*)$", README, re.MULTILINE)
    assert run(detokenize, server)["embeddings"]


def test_the_python_examples_run(server: RunningServer) -> None:
    address = server.url.removeprefix("http://")
    examples = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        command = [sys.executable, "-c", example.replace("localhost:8000", address)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
        assert done.returncode == 0, done.stderr


def test_the_scores_are_those_of_the_demo_bundle() -> None:
    directions = Tokenizer.load().manifest.provenance.scores["directions"]
    assert isinstance(directions, dict)
    for name, value in directions.items():
        assert f"| {name} | {percent(value)} |" in README
