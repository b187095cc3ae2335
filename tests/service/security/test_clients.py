"""Clients of every kind bring a key: the library, the command line, and the official `openai` package."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tessera.client import AsyncClient, Client, QuotaExceeded, RequestRefused, Retries, Text
from tests.service.running import RunningServer, running_server
from tests.service.security.secrets import ALL, KEYS, LINES, line

TEXT = Text("a dog barks")
SLOW = "tsr_slow"


@pytest.fixture(scope="module")
def guarded(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a file of keys."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(LINES + "\n" + line("slow", SLOW, requests_per_minute=1))
    with running_server(bundle_dir, "--api-keys-file", str(file)) as server:
        server.await_ready()
        yield server


def test_the_library(guarded: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESSERA_API_KEY", raising=False)
    with Client(guarded.url, api_key=ALL) as client:
        known = client.tokenize(TEXT)[0].codes.tolist()
    with Client(guarded.url) as client, pytest.raises(RequestRefused) as refused:
        client.tokenize(TEXT)
    assert (refused.value.status, refused.value.code) == (401, "unauthorized")
    with Client(guarded.url, api_key=KEYS["write"]) as client, pytest.raises(RequestRefused) as refused:
        client.tokenize(TEXT)
    assert (refused.value.status, refused.value.code) == (403, "forbidden")
    monkeypatch.setenv("TESSERA_API_KEY", KEYS["infer"])

    async def codes() -> list[list[int]]:
        async with AsyncClient(guarded.url) as client:
            found: list[list[int]] = (await client.tokenize(TEXT))[0].codes.tolist()
            return found

    assert asyncio.run(codes()) == known


def test_a_quota_has_an_error_of_its_own(guarded: RunningServer) -> None:
    with Client(guarded.url, api_key=SLOW, retries=Retries(most=0)) as client:
        client.tokenize(TEXT)
        with pytest.raises(QuotaExceeded) as refused:
            client.tokenize(TEXT)
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")


@pytest.mark.parametrize("key", [ALL, "tsr_another"], ids=["known", "another"])
def test_the_command_line(guarded: RunningServer, key: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tessera", "tokenize", "--text", "a dog barks", "--server", guarded.url],
        env=os.environ | {"TESSERA_API_KEY": key},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == (key == ALL)
    assert key not in done.stdout + done.stderr
    assert ("send a key of this server" in done.stderr) == (key != ALL)


def test_the_official_package(guarded: RunningServer) -> None:
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=KEYS["infer"], max_retries=0) as client:
        assert client.embeddings.create(model="tiny", input="a dog barks").data
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="another", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.embeddings.create(model="tiny", input="a dog barks")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=KEYS["write"], max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.embeddings.create(model="tiny", input="a dog barks")
