"""Answers from the cache are those of the tokenizer, to the bit, whatever was asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tessera.codes import Encoding
from tessera.tokenizer import Tokenizer
from tests.service.cache.test_single_flight import CACHED, counted
from tests.service.inputs import b64
from tests.service.running import running_app
from tests.service.test_tokenize import array

FLOATS = {"encoding_format": "float", "dtype": "float32"}
TEXT = "a dog barks in the rain"


def inputs_of(wav: bytes, mp4: bytes) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": TEXT},
        {"type": "audio", "data": b64(wav), "start_sec": 0.5, "end_sec": 11.25},
        {"type": "video", "data": b64(mp4)},
        {"type": "video", "data": b64(mp4), "track": "audio"},
    ]


def encodings_of(tokenizer: Tokenizer, wav: bytes, mp4: bytes) -> list[Encoding]:
    return [
        tokenizer.encode_text(TEXT),
        tokenizer.encode(wav, "audio", start_sec=0.5, end_sec=11.25),
        tokenizer.encode(mp4, "video"),
        tokenizer.encode(mp4, "audio"),
    ]


def exact(field: dict[str, Any]) -> NDArray[Any]:
    return array(field).astype(np.float32)


@pytest.mark.parametrize("first", [["codes"], ["margins", "latents"], ["pooled"]], ids=" ".join)
def test_whatever_filled_it_answers_are_equal(
    tokenizer: Tokenizer, wav: bytes, mp4: bytes, first: list[str]
) -> None:
    async def scenario() -> None:
        async with running_app(tokenizer, **CACHED | {"max_queue_seconds": 600}) as running:

            async def ask(*returns: str) -> list[dict[str, Any]]:
                body = {"inputs": inputs_of(wav, mp4), "return": returns, **FLOATS}
                answer = await running.client.post("/tokenize", json=body)
                assert answer.status_code == 200, answer.text
                data: list[dict[str, Any]] = answer.json()["data"]
                return data

            await ask(*first)
            computed = counted(running, "misses_total")
            data = await ask("codes", "embeddings", "pooled")
            assert counted(running, "misses_total") == computed
            assert counted(running, "hits_total") == 4
            for entry, encoding in zip(data, encodings_of(tokenizer, wav, mp4), strict=True):
                for name, value in encoding.to_json().items():
                    assert entry[name] == value
                assert np.array_equal(exact(entry["embeddings"]), encoding.embeddings)
                assert np.array_equal(exact(entry["pooled"]), encoding.pooled)
            full = await ask("codes", "embeddings", "margins", "latents")
            assert counted(running, "hits_total") == 4
            for entry, known in zip(full, data, strict=True):
                assert entry["embeddings"] == known["embeddings"]
                assert {"margins", "latents"} < entry.keys()
            vectors = await running.client.post("/v1/embeddings", json={"input": TEXT})
            assert vectors.json()["data"][0]["embedding"] == data[0]["pooled"]["data"]
            assert counted(running, "hits_total") == 5

    asyncio.run(scenario())


def test_large_files_are_known_too(client: httpx.Client, tokenizer: Tokenizer, wav: bytes) -> None:
    """12.5 s are hashed in a thread; in JSON and as they are it is the same file."""
    codes = tokenizer.encode(wav, "audio").codes.tolist()
    bodies: list[dict[str, Any]] = [
        {"content": wav, "headers": {"content-type": "audio/wav"}},
        {"json": {"inputs": [{"type": "audio", "data": b64(wav)}]}},
    ]
    for body in bodies:
        assert client.post("/tokenize", **body).json()["data"][0]["codes"] == codes
    answer = client.post("/tokenize", **bodies[1])
    assert "infer;dur=0.000" in answer.headers["server-timing"]


def test_an_embedding_follows_from_its_code_in_every_bundle_of_the_package() -> None:
    demo = Tokenizer.load(None)
    encoding = demo.encode_text(TEXT)
    assert np.array_equal(demo.detokenize(encoding.codes), encoding.embeddings)
