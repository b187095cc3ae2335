"""Whatever a client sends gets a clear error or a right answer, and the next request is served."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tessera.tokenizer import Tokenizer
from tests.media_files import shades, sine, sound_file, video_file
from tests.service.inputs import b64, features_input

JSON = {"content-type": "application/json"}
LEAKS = (
    "Traceback",
    "/home",
    "/usr",
    "/tmp",
    str(Path(__file__).parents[2]),
    ".py",
    "site-packages",
    "pydantic",
    "Errno",
    "av.error",
    "0x",
)


@pytest.fixture(autouse=True)
def _the_next_request_is_served(client: httpx.Client) -> Iterator[None]:
    yield
    answer = client.post("/tokenize", content="a dog barks", headers={"content-type": "text/plain"})
    assert answer.status_code == 200
    assert client.get("/health/live").status_code == 200


def refused(answer: httpx.Response, *codes: str) -> dict[str, Any]:
    """The error of `answer`, which is one of `codes`, in the one envelope, without a secret of the server."""
    assert answer.status_code >= 400, answer.text
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error["code"] in codes, error
    assert error["message"]
    for leak in LEAKS:
        assert leak not in answer.text
    return error


def send(client: httpx.Client, kind: str, content: bytes) -> httpx.Response:
    return client.post("/tokenize", content=content, headers={"content-type": kind})


def _wav(claimed_bytes: int, data: bytes) -> bytes:
    """A 16 kHz wav whose header claims `claimed_bytes` of samples."""
    rate = 16_000
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    sizes = struct.pack("<I", claimed_bytes + 36), struct.pack("<I", claimed_bytes)
    return b"RIFF" + sizes[0] + b"WAVEfmt " + form + b"data" + sizes[1] + data


def _picture() -> bytes:
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    return base64.b64decode(png)


BAD_MEDIA: dict[str, tuple[str, Callable[[], bytes], set[str]]] = {
    "empty": ("audio/wav", lambda: b"", {"empty_input"}),
    "garbage": (
        "audio/wav",
        lambda: np.random.default_rng(0).bytes(10_000),
        {"unsupported_media", "media_corrupt"},
    ),
    "garbage video": (
        "video/mp4",
        lambda: np.random.default_rng(1).bytes(10_000),
        {"unsupported_media", "media_corrupt"},
    ),
    "a picture called wav": ("audio/wav", _picture, {"unsupported_media", "missing_track", "media_corrupt"}),
    "0 s": ("audio/wav", lambda: _wav(0, b""), {"empty_input"}),
    "truncated mp4": (
        "video/mp4",
        lambda: video_file("mp4", shades(range(20)), 10)[:-1500],
        {"media_corrupt", "empty_input", "unsupported_media"},
    ),
    "video without frames": ("video/mp4", lambda: sound_file("m4a", sine(1.0), 16_000), {"missing_track"}),
    "audio without sound": ("audio/mp4", lambda: video_file("mp4", shades(range(5)), 5), {"missing_track"}),
    "a playlist": (
        "audio/wav",
        lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
        {"unsupported_media", "media_corrupt"},
    ),
}


@pytest.mark.parametrize("name", BAD_MEDIA)
def test_bad_media_is_refused(client: httpx.Client, name: str) -> None:
    kind, make, codes = BAD_MEDIA[name]
    content = make()
    error = refused(send(client, kind, content), *codes)
    assert error["message"].startswith("inputs[0]: ")
    assert error["param"] == "inputs[0].data"
    again = client.post(
        "/tokenize", json={"inputs": [{"type": kind.partition("/")[0], "data": b64(content)}]}
    )
    assert refused(again, *codes)["code"] == error["code"]


def test_silence_has_codes(client: httpx.Client) -> None:
    silence = sound_file("wav", np.zeros((1, 16_000 * 3), np.float32), 16_000)
    answer = send(client, "audio/wav", silence)
    assert answer.status_code == 200
    assert answer.json()["data"][0]["segments"]["count"] == 3


def test_a_torn_file_gives_what_it_holds(client: httpx.Client) -> None:
    whole = sound_file("wav", sine(4.0), 16_000)
    answer = send(client, "audio/wav", whole[: len(whole) // 2])
    assert answer.status_code == 200
    assert answer.json()["data"][0]["segments"]["count"] == 2


def test_a_header_that_claims_ten_hours_is_not_believed_or_is_refused(client: httpx.Client) -> None:
    answer = send(client, "audio/wav", _wav(36_000 * 32_000, bytes(32_000)))
    if answer.status_code == 200:
        assert answer.json()["data"][0]["duration_sec"] == pytest.approx(1.0)
    else:
        assert refused(answer, "media_too_long")["setting"] == "TESSERA_MAX_MEDIA_SECONDS"


def test_a_megabyte_of_text_is_too_long(client: httpx.Client) -> None:
    error = refused(send(client, "text/plain", b"dog " * 250_000), "text_too_long")
    assert error["limit"] == 20_000
    assert error["actual"] == 1_000_000
    assert error["setting"] == "TESSERA_MAX_TEXT_CHARS"


@pytest.mark.parametrize("text", ["", "   ", "!?", "\x00\x00"])
def test_a_text_without_words_is_empty(client: httpx.Client, text: str) -> None:
    error = refused(
        client.post("/tokenize", json={"inputs": [{"type": "text", "text": text}]}), "empty_input"
    )
    assert error["param"] == "inputs[0].text"


def test_nul_bytes_and_odd_characters_in_a_text_are_read(client: httpx.Client) -> None:
    for text in ("a dog\x00 barks", "a dog \ufffe\U0010ffff barks", "狗 🐕 dog", "\u202edog barks"):
        answer = client.post("/tokenize", json={"inputs": [{"type": "text", "text": text}]})
        assert answer.status_code == 200, answer.text
    lone = b'{"inputs": [{"type": "text", "text": "dog \\ud800 barks"}]}'
    answer = client.post("/tokenize", content=lone, headers=JSON)
    assert answer.status_code in (200, 422)


BAD_JSON = {
    "nothing": b"",
    "a word": b"dog",
    "half": b'{"inputs": [',
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": b'{"inputs": "\xff"}',
    "UTF-16": '{"inputs": []}'.encode("utf-16"),
    "raw NUL": b'{"inputs": "\x00"}',
    "NaN": b'{"inputs": [{"type": "audio", "data": "", "start_sec": NaN}]}',
    "infinity": b'{"inputs": [{"type": "audio", "data": "", "start_sec": -Infinity}]}',
    "a key twice": b'{"inputs": [{"type": "text", "type": "audio", "text": "dog"}]}',
    "deep lists": b"[" * 200_000,
    "deep closed lists": b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of a million digits": b'{"inputs": ' + b"9" * 1_000_000 + b"}",
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_refused(client: httpx.Client, name: str) -> None:
    for path in ("/tokenize", "/detokenize"):
        answer = client.post(path, content=BAD_JSON[name], headers=JSON)
        assert answer.status_code == 400
        refused(answer, "malformed_body")


def test_a_bomb_of_many_small_values_is_refused(client: httpx.Client) -> None:
    many = json.dumps({"inputs": [{}] * 100_000}).encode()
    refused(client.post("/tokenize", content=many, headers=JSON), "too_many_inputs")
    wide = json.dumps({"inputs": [{f"k{i}": i for i in range(100_000)}]}).encode()
    error = refused(client.post("/tokenize", content=wide, headers=JSON), "invalid_value")
    assert len(error["message"]) < 500


@pytest.mark.parametrize(
    ("entry", "param", "says"),
    [
        ({"type": "audio"}, "inputs[0].data", "data is missing"),
        ({"type": "audio", "data": None}, "inputs[0].data", "data is missing"),
        ({"type": "text"}, "inputs[0].text", "text is missing"),
        ({"type": "text", "text": 5}, "inputs[0].text", "must be a string"),
        ({"type": "text", "text": "dog", "data": ""}, "inputs[0].data", "is not a field"),
        ({"type": "audio", "data": "", "text": "dog"}, "inputs[0].text", "is not a field"),
        ({"type": "audio", "data": "!!!!"}, "inputs[0].data", "not base64"),
        ({"type": "audio", "data": "QUJD\n"}, "inputs[0].data", "not base64"),
        ({"type": "audio", "data": "QUJ"}, "inputs[0].data", "not base64"),
        ({"type": "audio", "data": "é"}, "inputs[0].data", "not base64"),
        ({"type": "audio", "data": "", "start_sec": -1}, "inputs[0].start_sec", "at least 0"),
        ({"type": "audio", "data": "", "start_sec": "1"}, "inputs[0].start_sec", "must be a number"),
        ({"type": "audio", "data": "", "start_sec": 10**400}, "inputs[0].start_sec", "must be"),
        ({"type": "audio", "data": "", "start_sec": 5, "end_sec": 5}, "inputs[0]", "end after it starts"),
        ({"type": "audio", "data": "", "track": "audio"}, "inputs[0].track", "is not a field"),
        ({"type": "video", "data": "", "track": "smell"}, "inputs[0].track", "must be 'video' or 'audio'"),
        ({"type": "audio", "data": "", "id": "x" * 257}, "inputs[0].id", "at most 256"),
        ({"type": "audio", "data": "", "id": 7}, "inputs[0].id", "must be a string"),
        ({"type": "smell"}, "inputs[0].type", "must be"),
        ({"type": ["audio"]}, "inputs[0].type", "must be"),
        ({}, "inputs[0].type", "is missing"),
        ([], "inputs[0]", "must be an object"),
        (None, "inputs[0]", "must be an object"),
    ],
)
def test_a_bad_field_is_named(client: httpx.Client, entry: object, param: str, says: str) -> None:
    content = json.dumps({"inputs": [entry]}).encode()
    error = refused(client.post("/tokenize", content=content, headers=JSON), "invalid_value")
    assert error["param"] == param
    assert says in error["message"]
    assert error["message"].startswith("inputs[0]: ")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"return": ["code"]}, "return[0]"),
        ({"return": []}, "return"),
        ({"return": "codes"}, "return"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dtype": "float64"}, "dtype"),
        ({"truncate": "NONE"}, "truncate"),
        ({"on_error": "ignore"}, "on_error"),
        ({"inputs": []}, "inputs"),
        ({"inputs": {}}, "inputs"),
        ({"input": []}, "input"),
    ],
)
def test_a_bad_option_is_named(client: httpx.Client, options: dict[str, Any], param: str) -> None:
    request = {"inputs": [{"type": "text", "text": "dog"}]} | options
    error = refused(client.post("/tokenize", json=request), "invalid_value")
    assert error["param"] == param


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3]},
        {"shape": [0, 24]},
        {"shape": [-3, -1]},
        {"shape": [3, 2**62]},
        {"shape": [2**40, 2**40, 2**40]},
        {"shape": [10**30, 1]},
        {"shape": [2.5, 1]},
        {"shape": [True, 1]},
        {"shape": "3"},
        {"dtype": "float64"},
        {"dtype": "float16"},
        {"data": ""},
        {"modality": "smell"},
        {"modality": "video"},
    ],
)
def test_features_must_be_what_they_say(
    client: httpx.Client, tokenizer: Tokenizer, change: dict[str, Any]
) -> None:
    entry = features_input(tokenizer) | change
    refused(client.post("/tokenize", json={"inputs": [entry]}), "invalid_value")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_must_be_finite(client: httpx.Client, tokenizer: Tokenizer, value: float) -> None:
    shape = (3, *tokenizer.feature_shape("audio"))
    values = np.zeros(shape, "<f4")
    values[1, 0] = value
    entry = features_input(tokenizer) | {"shape": shape, "data": b64(values.tobytes())}
    error = refused(client.post("/tokenize", json={"inputs": [entry]}), "invalid_value")
    assert "finite" in error["message"]


def test_half_precision_features_are_read(client: httpx.Client, tokenizer: Tokenizer) -> None:
    shape = (3, *tokenizer.feature_shape("audio"))
    values = np.random.default_rng(3).normal(size=shape).astype("<f2")
    entry = {
        "type": "features",
        "modality": "audio",
        "dtype": "float16",
        "shape": shape,
        "data": b64(values.tobytes()),
    }
    answer = client.post("/tokenize", json={"inputs": [entry]})
    expected = tokenizer.encode_features("audio", values.astype(np.float32))
    assert answer.json()["data"][0]["codes"] == expected.codes.tolist()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/pdf", "image/png", ""])
def test_a_body_of_unknown_kind_is_told_what_to_say(client: httpx.Client, kind: str) -> None:
    error = refused(send(client, kind, b"x=1"), "unsupported_content_type")
    assert "Content-Type: audio/wav" in error["message"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_compressed_bodies_are_refused(client: httpx.Client, encoding: str) -> None:
    headers = JSON | {"content-encoding": encoding}
    refused(client.post("/tokenize", content=b"{}", headers=headers), "unsupported_content_encoding")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"--x",
        b"--x\r\n\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--\r\n",
        b"\x00" * 100,
    ],
)
def test_bad_multipart_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = send(client, "multipart/form-data; boundary=x", content)
    refused(answer, "malformed_body", "invalid_value")
    refused(send(client, "multipart/form-data", content), "malformed_body")


@pytest.mark.parametrize(
    "query", ["?retrun=codes", "?return=code", "?start_sec=x", "?start_sec=nan", "?track=audio"]
)
def test_a_bad_query_is_refused(client: httpx.Client, query: str) -> None:
    wav = sound_file("wav", sine(1.0), 16_000)
    answer = client.post(f"/tokenize{query}", content=wav, headers={"content-type": "audio/wav"})
    refused(answer, "invalid_value")


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "9" * 30, "²"])
def test_a_bad_deadline_is_refused(client: httpx.Client, value: str) -> None:
    headers = {b"x-request-timeout-ms": value.encode("latin-1")}
    error = refused(client.get("/version", headers=headers), "invalid_value")
    assert error["param"] == "X-Request-Timeout-Ms"


def test_a_field_name_of_a_client_comes_back_short(client: httpx.Client) -> None:
    entry = {"type": "text", "text": "a dog", "x" * 50_000: 1}
    error = refused(client.post("/tokenize", json={"inputs": [entry]}), "invalid_value")
    assert len(error["message"]) < 200


def test_texts_that_are_short_alone_are_bounded_together(client: httpx.Client) -> None:
    inputs = [{"type": "text", "text": "a " * 9_000} for _ in range(5)]
    error = refused(client.post("/tokenize", json={"inputs": inputs}, timeout=900), "too_many_segments")
    assert error["setting"] == "TESSERA_MAX_REQUEST_SEGMENTS"


def test_a_body_of_a_million_empty_lists_is_not_parsed(client: httpx.Client) -> None:
    body = b'{"inputs":[' + b"[]," * 1_000_000 + b"[]]}"
    error = refused(client.post("/tokenize", content=body, headers=JSON), "body_too_large")
    assert error["setting"] == "TESSERA_MAX_JSON_VALUES"


@pytest.mark.parametrize("value", [1e7, -1e19, 3e38])
def test_features_too_large_for_float32_distances_are_refused(client: httpx.Client, value: float) -> None:
    data = np.full((1, 128), value, "<f4").tobytes()
    entry = {
        "type": "features",
        "modality": "audio",
        "dtype": "float32",
        "shape": [1, 128],
        "data": b64(data),
    }
    error = refused(client.post("/tokenize", json={"inputs": [entry]}), "invalid_value")
    assert "million" in error["message"]
