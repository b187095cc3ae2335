"""Features as a raw body, lanes, and answers of codes alone: other ways to ask, the same codes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.bench.graphs_of_cost import write_deep_bundle
from service.contract import TokenizeResponse
from service.jobs import Lane
from tessera.tokenizer import Tokenizer
from tessera.windows import Modality
from tests.service.faults import Faulty
from tests.service.inputs import b64
from tests.service.running import running_app

RAW = {"content-type": "application/octet-stream"}
MODALITIES: tuple[Modality, ...] = ("audio", "video")


def features(tokenizer: Tokenizer, modality: Modality, *sizes: int, seed: int = 0) -> NDArray[np.float32]:
    """Features [*sizes, ...]."""
    shape = (*sizes, *tokenizer.feature_shape(modality))
    return np.random.default_rng(seed).normal(size=shape).astype("<f4")


def query_of(values: NDArray[Any], modality: str, **fields: Any) -> dict[str, Any]:
    return {"modality": modality, "shape": ",".join(map(str, values.shape))} | fields


def send(
    client: httpx.Client, values: NDArray[Any], modality: str = "audio", **fields: Any
) -> httpx.Response:
    return client.post(
        "/tokenize", params=query_of(values, modality, **fields), content=values.tobytes(), headers=RAW
    )


def as_json(client: httpx.Client, clips: NDArray[Any], modality: str, **options: Any) -> httpx.Response:
    """The same clips, each as an input of a JSON body."""
    inputs = [
        {
            "type": "features",
            "modality": modality,
            "dtype": str(clip.dtype),
            "shape": list(clip.shape),
            "data": b64(clip.tobytes()),
        }
        for clip in clips
    ]
    return client.post("/tokenize", json={"inputs": inputs} | options)


def entries(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    TokenizeResponse.model_validate(answer.json())
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("segments", [1, 3, 10, 20, 27])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_raw_array_of_clips_gives_the_codes_of_features_in_json(
    client: httpx.Client, tokenizer: Tokenizer, modality: Modality, segments: int, dtype: str
) -> None:
    clips = features(tokenizer, modality, 4, segments).astype(dtype)
    expected = entries(as_json(client, clips, modality))
    answered = entries(send(client, clips, modality, dtype=dtype))
    assert answered == expected
    library = [tokenizer.encode_features(modality, clip.astype(np.float32)) for clip in clips]
    assert [entry["codes"] for entry in answered] == [each.codes.tolist() for each in library]


def test_with_as_many_axes_as_the_features_of_a_clip_it_is_one(
    client: httpx.Client, tokenizer: Tokenizer
) -> None:
    clips = features(tokenizer, "audio", 1, 12)
    (alone,) = entries(send(client, clips[0]))
    assert [alone] == entries(send(client, clips))


def test_all_that_can_be_returned_is_the_same(client: httpx.Client, tokenizer: Tokenizer) -> None:
    clips = features(tokenizer, "audio", 3, 14)
    wanted = ["codes", "margins", "embeddings", "latents", "pooled"]
    expected = entries(as_json(client, clips, "audio", **{"return": wanted, "dtype": "float32"}))
    answered = entries(send(client, clips, **{"return": ",".join(wanted)}))
    assert answered == expected


@pytest.mark.parametrize("on_error", ["fail", "partial"])
@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda values: values.__setitem__((1, 2, 3), np.nan), "invalid_value"),
        (lambda values: values.__setitem__((0, 0, 0), -np.inf), "invalid_value"),
        (lambda values: values.__setitem__((3, 4, 5), 1e7), "invalid_value"),
    ],
)
def test_numbers_that_are_none_are_refused(
    client: httpx.Client, tokenizer: Tokenizer, damage: Any, code: str, on_error: str
) -> None:
    clips = features(tokenizer, "audio", 4, 6)
    damage(clips)
    answer = send(client, clips, on_error=on_error)
    if on_error == "fail":
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["param"] == "inputs[0].data"
        return
    data = entries(answer)
    assert [entry["index"] for entry in data] == list(range(4))
    assert {entry["error"]["code"] for entry in data} == {code}


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({"shape": None}, "invalid_value", "shape"),
        ({"shape": ""}, "invalid_value", "shape"),
        ({"shape": "768"}, "invalid_value", "shape"),
        ({"shape": "2,3,x"}, "invalid_value", "shape[2]"),
        ({"shape": "2,3,-128"}, "invalid_value", "shape[2]"),
        ({"shape": "0,3,128"}, "invalid_value", "shape[0]"),
        ({"shape": "2,3,2.5"}, "invalid_value", "shape[2]"),
        ({"shape": "2147483647,2147483647,2147483647"}, "invalid_value", "data"),
        ({"shape": "1,1,1,1,1,1,1,1,1"}, "invalid_value", "shape"),
        ({"shape": "2,2,128"}, "invalid_value", "data"),
        ({"shape": "3,2,128", "dtype": "float16"}, "invalid_value", "data"),
        ({"dtype": "int8"}, "invalid_value", "dtype"),
        ({"shape": "2,128,3"}, "invalid_value", "inputs[0].data"),
        ({"shape": "1,2,3,128"}, "invalid_value", "inputs[0].data"),
        ({"modality": None}, "invalid_value", "modality"),
        ({"modality": "smell"}, "invalid_value", "modality"),
        ({"modality": "video"}, "invalid_value", "inputs[0].data"),
        ({"model": "none"}, "model_not_found", "model"),
        ({"id": "mine"}, "invalid_value", "id"),
        ({"start_sec": "1"}, "invalid_value", "start_sec"),
    ],
)
def test_a_query_that_does_not_fit_the_body_is_refused(
    client: httpx.Client, tokenizer: Tokenizer, query: dict[str, str | None], code: str, param: str
) -> None:
    clips = features(tokenizer, "audio", 2, 3)
    params = {name: value for name, value in (query_of(clips, "audio") | query).items() if value is not None}
    answer = client.post("/tokenize", params=params, content=clips.tobytes(), headers=RAW)
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert answer.status_code in (404, 422)


def test_too_many_clips_and_clips_that_are_too_long_are_refused(
    client: httpx.Client, tokenizer: Tokenizer
) -> None:
    limits = {entry["name"]: entry["value"] for entry in client.get("/limits").json()["data"]}
    many = send(client, features(tokenizer, "audio", limits["max_inputs"] + 1, 1))
    assert many.status_code == 413
    assert many.json()["error"]["code"] == "too_many_inputs"
    segments = int(limits["max_media_seconds"] / tokenizer.manifest.time_grid.hop_sec) + 20
    long = send(client, features(tokenizer, "audio", segments))
    assert long.status_code == 413
    assert long.json()["error"]["code"] == "media_too_long"


def test_the_segments_of_all_clips_count_together(bundle_dir: Path) -> None:
    async def scenario() -> list[httpx.Response]:
        faulty = Faulty.load(bundle_dir).arm()
        async with running_app(faulty, max_request_segments=20, max_queue_seconds=100) as running:
            answers = []
            for clips in (features(faulty, "audio", 4, 5), features(faulty, "audio", 3, 7)):
                query = query_of(clips, "audio")
                answers.append(
                    await running.client.post("/tokenize", params=query, content=clips.tobytes(), headers=RAW)
                )
            return answers

    fits, over = asyncio.run(scenario())
    assert fits.status_code == 200, fits.text
    assert (over.status_code, over.json()["error"]["code"]) == (413, "too_many_segments")
    assert over.json()["error"]["actual"] == 21


@pytest.mark.parametrize("lane", get_args(Lane))
def test_either_lane_answers_with_the_same_codes(
    client: httpx.Client, tokenizer: Tokenizer, lane: str
) -> None:
    clips = features(tokenizer, "audio", 2, 3)
    answer = client.post(
        "/tokenize",
        params=query_of(clips, "audio"),
        content=clips.tobytes(),
        headers=RAW | {"x-priority": lane},
    )
    assert entries(answer) == entries(send(client, clips))
    words = client.post("/v1/embeddings", json={"input": "a dog barks"}, headers={"x-priority": lane})
    assert words.status_code == 200


@pytest.mark.parametrize("lane", ["", "urgent", "Bulk", "interactive,bulk", "é"])
@pytest.mark.parametrize("path", ["/tokenize", "/v1/embeddings"])
def test_another_lane_is_refused(client: httpx.Client, path: str, lane: str) -> None:
    body: dict[str, Any] = (
        {"input": "a dog"} if "v1" in path else {"inputs": [{"type": "text", "text": "a dog"}]}
    )
    answer = client.post(path, json=body, headers={b"x-priority": lane.encode()})
    error = answer.json()["error"]
    assert answer.status_code == 422
    assert (error["code"], error["param"]) == ("invalid_value", "X-Priority")


def test_codes_alone_are_those_of_a_full_answer(
    client: httpx.Client, tokenizer: Tokenizer, wav: bytes, mp4: bytes
) -> None:
    inputs = [
        {"type": "text", "text": "a dog barks in the rain, and a bell rings"},
        {"type": "audio", "data": b64(wav)},
        {"type": "video", "data": b64(mp4)},
        {
            "type": "features",
            "modality": "audio",
            "shape": [13, 128],
            "data": b64(features(tokenizer, "audio", 13).tobytes()),
        },
    ]
    alone = entries(client.post("/tokenize", json={"inputs": inputs}))
    full = entries(
        client.post("/tokenize", json={"inputs": inputs, "return": ["codes", "margins", "pooled"]})
    )
    for short, long in zip(alone, full, strict=True):
        assert short == {name: value for name, value in long.items() if name in short}
        extra = {"margins", "pooled"} | ({"clip_margins"} if "clip_codes" in short else set())
        assert long.keys() - short.keys() == extra


def test_a_modality_that_the_bundle_does_not_read_is_refused(tmp_path: Path) -> None:
    audio_alone = Tokenizer.load(write_deep_bundle(tmp_path / "audio", 2, "audio"))

    async def asked() -> httpx.Response:
        async with running_app(audio_alone) as app:
            query = {"modality": "video", "shape": "1,2,3"}
            return await app.client.post("/tokenize", params=query, content=bytes(24), headers=RAW)

    answer = asyncio.run(asked())
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "modality"
    assert answer.json()["error"]["message"] == "this bundle reads audio, not video"
