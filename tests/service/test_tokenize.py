"""POST /tokenize and /detokenize: every body, every form of answer, all equal to the tokenizer itself."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from service.contract import DetokenizeResponse, TokenizeResponse
from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, sound_file
from tests.service.inputs import b64, features_input
from tests.service.running import RunningServer

ALL = ["codes", "margins", "embeddings", "latents", "pooled"]
TEXT = "a dog barks in the rain, and a bell rings"


def array(field: dict[str, Any]) -> NDArray[Any]:
    """The values of an array of an answer."""
    if field["encoding"] == "float":
        return np.array(field["data"], dtype=field["dtype"]).reshape(field["shape"])
    raw = field["data"] if field["encoding"] == "binary" else base64.b64decode(field["data"])
    return np.frombuffer(raw, np.dtype(field["dtype"]).newbyteorder("<")).reshape(field["shape"])


def tokenize(client: httpx.Client, *inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
    answer = client.post("/tokenize", json={"inputs": inputs} | options)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    TokenizeResponse.model_validate(document)
    return document


def test_modalities_mix_in_one_request(
    client: httpx.Client, tokenizer: Tokenizer, wav: bytes, mp4: bytes
) -> None:
    document = tokenize(
        client,
        {"id": "a", "type": "audio", "data": b64(wav), "start_sec": 1, "end_sec": 12},
        {"id": "b", "type": "video", "data": b64(mp4)},
        {"id": "c", "type": "video", "track": "audio", "data": b64(mp4)},
        {"id": "d", "type": "text", "text": TEXT},
        features_input(tokenizer, id="e"),
    )
    expected = [
        tokenizer.encode(wav, "audio", start_sec=1, end_sec=12),
        tokenizer.encode(mp4, "video"),
        tokenizer.encode(mp4, "audio"),
        tokenizer.encode_text(TEXT),
    ]
    for entry, encoding in zip(document["data"], expected, strict=False):
        assert {name: entry[name] for name in encoding.to_json()} == encoding.to_json()
    assert [entry["id"] for entry in document["data"]] == list("abcde")
    assert [entry["index"] for entry in document["data"]] == list(range(5))
    assert [entry["modality"] for entry in document["data"]] == ["audio", "video", "audio", "text", "audio"]
    assert len(document["data"][4]["codes"]) == 3
    assert document["id"].startswith("tok_")
    assert document["model_revision"] == tokenizer.bundle.revision
    assert document["usage"] == {
        "items": 5,
        "segments": sum(len(entry["codes"]) for entry in document["data"]),
        "media_seconds": pytest.approx(sum(encoding.duration_sec or 0 for encoding in expected)),
    }


def test_a_raw_body_just_works(client: httpx.Client, tokenizer: Tokenizer, wav: bytes, mp4: bytes) -> None:
    def codes(content: bytes, kind: str, query: str = "") -> Any:
        answer = client.post(f"/tokenize{query}", content=content, headers={"content-type": kind})
        assert answer.status_code == 200, answer.text
        return answer.json()["data"][0]["codes"]

    assert codes(wav, "audio/wav") == tokenizer.encode(wav, "audio").codes.tolist()
    assert codes(wav, "audio/x-wav", "?start_sec=2&end_sec=5") == codes(wav, "audio/wav")[2:5]
    assert codes(mp4, "video/mp4") == tokenizer.encode(mp4, "video").codes.tolist()
    assert codes(mp4, "video/mp4", "?track=audio") == tokenizer.encode(mp4, "audio").codes.tolist()
    expected = tokenizer.encode_text(TEXT).codes.tolist()
    assert codes(TEXT.encode(), "text/plain; charset=utf-8") == expected


def test_the_query_of_a_raw_body_has_the_options(client: httpx.Client) -> None:
    query = "?return=codes,margins&return=pooled&encoding_format=float&dtype=float32&id=x&truncate=end"
    answer = client.post(f"/tokenize{query}", content=TEXT, headers={"content-type": "text/plain"})
    entry = answer.json()["data"][0]
    assert {"codes", "margins", "pooled"} < entry.keys()
    assert "embeddings" not in entry
    assert entry["id"] == "x"
    assert (entry["pooled"]["encoding"], entry["pooled"]["dtype"]) == ("float", "float32")


def test_multipart_gives_its_files_in_order_to_the_inputs_that_have_none(
    client: httpx.Client, tokenizer: Tokenizer, wav: bytes, mp4: bytes
) -> None:
    request = {
        "inputs": [{"type": "video"}, {"type": "text", "text": "bell"}, {"type": "audio"}, {"type": "text"}]
    }
    files = [
        ("one", ("a.mp4", mp4, "video/mp4")),
        ("two", ("b.wav", wav, "audio/wav")),
        ("three", ("c.txt", TEXT.encode(), "text/plain")),
    ]
    answer = client.post("/tokenize", data={"request": json.dumps(request)}, files=files)
    assert answer.status_code == 200, answer.text
    expected = [
        tokenizer.encode(mp4, "video"),
        tokenizer.encode_text("bell"),
        tokenizer.encode(wav, "audio"),
        tokenizer.encode_text(TEXT),
    ]
    assert [entry["codes"] for entry in answer.json()["data"]] == [each.codes.tolist() for each in expected]


def test_a_request_part_may_be_a_file_and_must_be_there(client: httpx.Client, wav: bytes) -> None:
    request = json.dumps({"inputs": [{"type": "audio"}]}).encode()
    files = [("request", ("r.json", request, "application/json")), ("f", ("b.wav", wav, "audio/wav"))]
    assert client.post("/tokenize", files=files).status_code == 200
    assert client.post("/tokenize", files=files[1:]).json()["error"]["param"] == "request"
    spare = [*files, ("g", ("c.wav", wav, "audio/wav"))]
    assert client.post("/tokenize", files=spare).json()["error"]["code"] == "invalid_value"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_formats_are_equal_to_each_other(
    client: httpx.Client, tokenizer: Tokenizer, dtype: str, wav: bytes
) -> None:
    request = {"inputs": [{"type": "audio", "data": b64(wav)}], "return": ALL, "dtype": dtype}
    accept = {"accept": "application/msgpack"}
    base = client.post("/tokenize", json=request).json()["data"][0]
    floats = client.post("/tokenize", json=request | {"encoding_format": "float"}).json()["data"][0]
    packed = client.post("/tokenize", json=request, headers=accept)
    assert packed.headers["content-type"] == "application/msgpack"
    binary = msgspec.msgpack.decode(packed.content)["data"][0]
    packed_floats = client.post("/tokenize", json=request | {"encoding_format": "float"}, headers=accept)
    lists = msgspec.msgpack.decode(packed_floats.content)["data"][0]
    encoding = tokenizer.encode(wav, "audio")
    assert isinstance(binary["latents"]["data"], bytes)
    assert base["embeddings"]["byte_order"] == "little"
    for name in ALL[1:]:
        expected = getattr(encoding, name).astype(dtype)
        for entry in (base, floats, binary, lists):
            tolerance = 1e-2 if dtype == "float16" else 1e-4
            np.testing.assert_allclose(array(entry[name]), expected, rtol=tolerance, atol=tolerance)
            np.testing.assert_array_equal(array(entry[name]), array(base[name]))
    for entry in (base, floats, binary, lists):
        assert entry["codes"] == encoding.codes.tolist()


def test_only_what_was_asked_for_returns(client: httpx.Client) -> None:
    entry = tokenize(client, {"type": "text", "text": TEXT}, **{"return": ["latents"]})["data"][0]
    assert "latents" in entry
    assert not {"codes", "clip_codes", "margins", "embeddings", "pooled"} & entry.keys()


def test_partial_answers_the_good_inputs_and_fail_names_every_bad_one(
    client: httpx.Client, wav: bytes
) -> None:
    inputs = [
        {"id": "good", "type": "text", "text": TEXT},
        {"id": "torn", "type": "audio", "data": b64(b"RIFFxxxx")},
        {"id": "lost", "type": "audio"},
        {"id": "fine", "type": "audio", "data": b64(wav)},
        {"id": "odd", "type": "smell", "data": ""},
        17,
    ]
    failed = client.post("/tokenize", json={"inputs": inputs})
    error = failed.json()["error"]
    assert failed.status_code in (415, 422)
    for index in (1, 2, 4, 5):
        assert f"inputs[{index}]: " in error["message"]
    assert "inputs[0]" not in error["message"]
    assert error["param"] == "inputs[1].data"
    partial = tokenize(client, *inputs, on_error="partial")  # type: ignore[arg-type]
    assert ["error" in entry for entry in partial["data"]] == [False, True, True, False, True, True]
    assert [entry["id"] for entry in partial["data"]] == ["good", "torn", "lost", "fine", "odd", None]
    assert partial["usage"]["items"] == 2
    assert partial["data"][2]["error"]["code"] == "invalid_value"
    assert partial["data"][0]["codes"] == tokenize(client, inputs[0])["data"][0]["codes"]  # type: ignore[arg-type]


def test_promise_3_codes_do_not_depend_on_the_batch(
    server: RunningServer, tokenizer: Tokenizer, wav: bytes
) -> None:
    words = TEXT.replace(",", "").split()
    inputs = [
        *({"type": "text", "text": " ".join(words[: 1 + i % 9])} for i in range(24)),
        *({"type": "audio", "data": b64(sound_file("wav", chirp(1 + i % 4), 16_000))} for i in range(8)),
        *(features_input(tokenizer, 1 + i % 12) for i in range(24)),
        {"type": "audio", "data": b64(wav)},
    ]
    with server.client() as client:
        alone = [tokenize(client, entry)["data"][0] for entry in inputs]
        together = tokenize(client, *inputs)["data"]
        with ThreadPoolExecutor(12) as pool:
            crowd = list(pool.map(lambda entry: tokenize(client, entry)["data"][0], inputs * 3))
    for index, entry in enumerate(alone):
        answers = [together[index], *crowd[index :: len(inputs)]]
        assert len(answers) == 4
        for answer in answers:
            assert answer["codes"] == entry["codes"]
            assert answer.get("clip_codes") == entry.get("clip_codes")


def test_truncate_says_what_it_did(client: httpx.Client) -> None:
    text = "bell " * 5000
    assert client.post("/tokenize", json={"inputs": [{"type": "text", "text": text}]}).status_code == 413
    entry = tokenize(client, {"type": "text", "text": text}, truncate="end")["data"][0]
    assert entry["truncated"]
    assert entry["segments"]["count"] == 4000


def test_detokenize_returns_the_rows_of_the_codebook(client: httpx.Client, tokenizer: Tokenizer) -> None:
    entry = tokenize(client, {"type": "text", "text": TEXT}, **{"return": ["codes", "embeddings"]})["data"][0]
    answer = client.post("/detokenize", json={"codes": entry["codes"]})
    assert answer.status_code == 200, answer.text
    DetokenizeResponse.model_validate(answer.json())
    np.testing.assert_array_equal(array(answer.json()["embeddings"]), array(entry["embeddings"]))
    packed = client.post(
        "/detokenize", json={"codes": entry["codes"]}, headers={"accept": "application/msgpack"}
    )
    binary = msgspec.msgpack.decode(packed.content)["embeddings"]
    np.testing.assert_array_equal(array(binary), array(entry["embeddings"]))


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([[99_999]], "code_out_of_range"),
        ([[-1]], "code_out_of_range"),
        ([], "invalid_value"),
        ([[]], "invalid_value"),
        ([1, 2], "invalid_value"),
        ([[1], [1, 2]], "invalid_value"),
        ([[1.5]], "invalid_value"),
        ([["1"]], "invalid_value"),
        ([[True]], "invalid_value"),
        ([[2**63]], "invalid_value"),
        ([[2**70]], "invalid_value"),
        ([[None]], "invalid_value"),
        ([[1, 2, 3, 4, 5]], "invalid_value"),
        ({"a": 1}, "invalid_value"),
        (None, "invalid_value"),
        ([[1]] * 65_537, "too_many_segments"),
    ],
)
def test_detokenize_refuses_what_is_not_codes(client: httpx.Client, codes: object, code: str) -> None:
    answer = client.post("/detokenize", json={"codes": codes})
    assert answer.json()["error"]["code"] == code
    assert answer.status_code in (413, 422)


def test_request_ids_come_back_and_are_made(client: httpx.Client) -> None:
    mine = client.get("/version", headers={"x-request-id": "mine-1"})
    assert mine.headers["x-request-id"] == "mine-1"
    made = client.get("/version", headers={"x-request-id": "not\tone of ours" * 20})
    assert len(made.headers["x-request-id"]) == 32
    failed = client.post("/tokenize", json={}, headers={"x-request-id": "mine-2"})
    assert failed.json()["error"]["request_id"] == failed.headers["x-request-id"] == "mine-2"


def test_server_timing_names_the_stages(client: httpx.Client) -> None:
    wav = sound_file("wav", chirp(2.75), 16_000)  # no other test's, whose codes would be known
    answer = client.post("/tokenize", content=wav, headers={"content-type": "audio/wav"})
    stages = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(stages) == ["decode", "queue", "infer", "encode", "total"]
    assert float(stages["decode"]) > 0
    assert float(stages["infer"]) > 0
