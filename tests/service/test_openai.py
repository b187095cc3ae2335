"""POST /v1/embeddings and GET /v1/models, asked by the official `openai` package."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from service.contract import EmbeddingsResponse, OpenAIModelDocument
from tessera.tokenizer import Tokenizer
from tests.service.inputs import b64
from tests.service.running import RunningServer, running_server

TEXTS = ["a dog barks", "a bell rings in the rain"]


@pytest.fixture(scope="module")
def official(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> str:
    return tokenizer.manifest.name


def vectors(answer: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert [entry.index for entry in answer.data] == list(range(len(answer.data)))
    return np.array([entry.embedding for entry in answer.data], np.float32)


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_texts_are_pooled(
    official: openai.OpenAI, tokenizer: Tokenizer, model: str, form: dict[str, Any]
) -> None:
    answer = official.embeddings.create(model=model, input=TEXTS, user="somebody", **form)
    expected = [tokenizer.encode_text(text) for text in TEXTS]
    if form == {"encoding_format": "base64"}:
        raw = [np.frombuffer(base64.b64decode(str(entry.embedding)), "<f4") for entry in answer.data]
        np.testing.assert_allclose(raw, [each.pooled for each in expected], rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_allclose(vectors(answer), [each.pooled for each in expected], rtol=1e-4, atol=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 9
    assert answer.model == model


def test_one_text_is_a_list_of_one(official: openai.OpenAI, tokenizer: Tokenizer, model: str) -> None:
    width = tokenizer.manifest.kept_total
    answer = official.embeddings.create(model=model, input=TEXTS[0], dimensions=width)
    assert vectors(answer).shape == (1, width)


def test_both_formats_are_the_same_numbers(client: httpx.Client) -> None:
    ask = {"input": TEXTS}
    floats = client.post("/v1/embeddings", json=ask).json()
    packed = client.post("/v1/embeddings", json=ask | {"encoding_format": "base64"}).json()
    for answer in (floats, packed):
        EmbeddingsResponse.model_validate(answer)
    for one, other in zip(floats["data"], packed["data"], strict=True):
        raw = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        np.testing.assert_array_equal(np.array(one["embedding"], np.float32), raw)


def test_media_come_by_the_extra_body(
    official: openai.OpenAI, tokenizer: Tokenizer, model: str, wav: bytes, mp4: bytes
) -> None:
    sounds = [f"data:audio/wav;base64,{b64(wav)}", b64(mp4)]
    audio = official.embeddings.create(model=model, input=sounds, extra_body={"modality": "audio"})
    expected = [tokenizer.encode(wav, "audio").pooled, tokenizer.encode(mp4, "audio").pooled]
    np.testing.assert_allclose(vectors(audio), expected, rtol=1e-4, atol=1e-5)
    video = official.embeddings.create(model=model, input=b64(mp4), extra_body={"modality": "video"})
    np.testing.assert_allclose(vectors(video)[0], tokenizer.encode(mp4, "video").pooled, rtol=1e-4, atol=1e-5)


REFUSALS: list[tuple[type[openai.APIStatusError], str, str | None, dict[str, Any]]] = [
    (openai.NotFoundError, "model_not_found", "model", {"model": "text-embedding-3-small"}),
    (openai.UnprocessableEntityError, "invalid_value", "dimensions", {"dimensions": 3}),
    (openai.UnprocessableEntityError, "invalid_value", "input", {"input": [1, 2, 3]}),
    (openai.UnprocessableEntityError, "invalid_value", "input", {"input": [[1, 2], [3]]}),
    (openai.UnprocessableEntityError, "invalid_value", "input", {"input": []}),
    (openai.UnprocessableEntityError, "invalid_value", "input", {"input": ["a", 1]}),
    (openai.UnprocessableEntityError, "empty_input", "input", {"input": ""}),
    (openai.UnprocessableEntityError, "empty_input", "input[1]", {"input": ["dog", " "]}),
    (openai.UnprocessableEntityError, "invalid_value", "modality", {"extra_body": {"modality": "smell"}}),
    (openai.UnprocessableEntityError, "invalid_value", "speed", {"extra_body": {"speed": 2}}),
    (openai.UnprocessableEntityError, "invalid_value", "input", {"extra_body": {"modality": "audio"}}),
    (
        openai.UnprocessableEntityError,
        "invalid_value",
        "input",
        {"input": "data:audio/wav,x", "extra_body": {"modality": "audio"}},
    ),
    (
        openai.PermissionDeniedError,
        "url_inputs_disabled",
        "input",
        {"input": "https://example.org/a.wav", "extra_body": {"modality": "audio"}},
    ),
    (
        openai.APIStatusError,
        "unsupported_media",
        "input",
        {"input": b64(bytes(500)), "extra_body": {"modality": "audio"}},
    ),
    (openai.APIStatusError, "too_many_inputs", "input", {"input": ["dog"] * 65}),
    (openai.APIStatusError, "text_too_long", "input", {"input": "dog " * 10_000}),
]


@pytest.mark.parametrize(("kind", "code", "param", "fields"), REFUSALS)
def test_an_error_is_the_exception_that_users_of_openai_catch(
    official: openai.OpenAI,
    model: str,
    kind: type[openai.APIStatusError],
    code: str,
    param: str,
    fields: dict[str, Any],
) -> None:
    with pytest.raises(kind) as caught:
        official.embeddings.create(**{"model": model, "input": TEXTS[0], **fields})
    assert caught.value.code == code
    assert caught.value.param == param
    assert caught.value.type
    assert "inputs[" not in str(caught.value)
    assert caught.value.request_id


def test_token_ids_are_refused_with_a_sentence(official: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="token ids are not read here; send the text"):
        official.embeddings.create(model=model, input=[[17, 3]])


def test_the_body_is_json(official: openai.OpenAI, client: httpx.Client) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        official.post("/embeddings", body=[1], cast_to=object)
    assert caught.value.code == "malformed_body"
    answer = client.post("/v1/embeddings", content="dog", headers={"content-type": "text/plain"})
    assert answer.status_code == 415


def test_a_full_server_is_an_error_that_the_client_may_retry(bundle_dir: Path) -> None:
    with running_server(bundle_dir, max_held_bytes=100, max_body_bytes=100) as server:
        address = httpx.URL(server.url)
        head = b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 99\r\n\r\n"
        with (
            socket.create_connection((address.host, address.port or 0)) as slow,
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        ):
            slow.sendall(head + b"dog " * 24)
            while "tessera_held_bytes 96.0" not in httpx.get(f"{server.url}/metrics", timeout=300).text:
                time.sleep(0.01)
            with pytest.raises(openai.InternalServerError) as caught:
                client.embeddings.create(model="any", input="dog")
    assert caught.value.code == "overloaded"
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_models_are_listed_and_found(
    official: openai.OpenAI, tokenizer: Tokenizer, model: str, client: httpx.Client
) -> None:
    (only,) = official.models.list().data
    assert (only.id, only.owned_by, only.object) == (model, "tessera", "model")
    assert only.created > 1_700_000_000
    assert official.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError):
        official.models.retrieve("another")
    OpenAIModelDocument.model_validate(client.get(f"/v1/models/{model}").json())


def test_the_asynchronous_client_is_served_alike(server: RunningServer, model: str) -> None:
    async def scenario() -> int:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            answers = await asyncio.gather(
                *(client.embeddings.create(model=model, input=text) for text in TEXTS * 8)
            )
        return len(answers)

    assert asyncio.run(scenario()) == 16
