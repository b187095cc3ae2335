"""What the siege sends: good requests and their codes, bad ones and the refusals that fit, and rude clients."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import orjson

from service.errors import ErrorCode
from tessera.codes import Encoding
from tessera.tokenizer import Tokenizer
from tests.media_files import PICTURE, SOUND, clip
from tests.service.inputs import b64, features_input
from tests.service.siege.wire import Answer, Move, Step, head, post

MAX_BODY_BYTES = 4 * 2**20
"""Of the servers under siege, so that what is too large is soon sent."""

Check = Callable[[Answer], bool]
Codes = list[list[int]]

_JSON = "application/json"
_WORDS = ("rain", "falls", "on", "an", "old", "roof", "while", "dogs", "bark", "and", "engines", "idle")
_TEXT = {"inputs": [{"type": "text", "text": "a dog barks"}]}


@dataclass(frozen=True)
class Request:
    """One client. `right` looks at an answer with status 200; without it, none may be given."""

    kind: str
    steps: Sequence[Step]
    right: Check | None = None
    refusals: frozenset[ErrorCode] = frozenset()
    answers: int = 1
    may_go_unanswered: bool = False


def good_requests(tokenizer: Tokenizer) -> list[Request]:
    """Every kind of input in every kind of body, with the codes that the library gives."""
    media = [("audio", form) for form in SOUND] + [("video", form) for form in PICTURE]
    made = []
    for modality, form in media:
        data, codes = clip(form), _codes(tokenizer.encode(clip(form), modality))
        entry = {"type": modality, "data": b64(data)}
        made.append(_good(f"{form} as it is", f"{modality}/x", data, [codes]))
        made.append(_good(f"{form} in JSON", _JSON, orjson.dumps({"inputs": [entry]}), [codes]))
    draw = random.Random(0)
    for count in (1, 5, 40):
        text = " ".join(draw.choices(_WORDS, k=count))
        made.append(
            _good("a text as it is", "text/plain", text.encode(), [_codes(tokenizer.encode_text(text))])
        )
    texts = [" ".join(draw.choices(_WORDS, k=count)) for count in (3, 12, 30)]
    codes = [_codes(tokenizer.encode_text(text)) for text in texts]
    inputs: list[dict[str, Any]] = [{"type": "text", "text": text} for text in texts]
    made.append(_good("texts in JSON", _JSON, orjson.dumps({"inputs": inputs}), codes))
    packed = ["accept: application/msgpack"]
    made.append(
        _good("texts, answered in MessagePack", _JSON, orjson.dumps({"inputs": inputs}), codes, *packed)
    )
    partial = {"inputs": [*inputs, {"type": "audio", "data": "!"}], "on_error": "partial"}
    made.append(_good("texts beside a bad input", _JSON, orjson.dumps(partial), [*codes, None]))
    for segments in (1, 7, 25):
        shape = (segments, *tokenizer.feature_shape("audio"))
        values = np.random.default_rng(segments).normal(size=shape).astype("<f4")
        found = _codes(tokenizer.encode_features("audio", values))
        entry = features_input(tokenizer, segments)
        made.append(_good("features in JSON", _JSON, orjson.dumps({"inputs": [entry]}), [found]))
        target = "/tokenize?modality=audio&shape=" + ",".join(map(str, shape))
        made.append(
            _good(
                "features as they are", "application/octet-stream", values.tobytes(), [found], target=target
            )
        )
    form = {"request": orjson.dumps({"inputs": [{"type": "audio"}, inputs[0]]}), "file": clip("flac")}
    found = [_codes(tokenizer.encode(clip("flac"), "audio")), codes[0]]
    made.append(_good("multipart", "multipart/form-data; boundary=x", _multipart(form), found))
    rows = orjson.dumps({"codes": codes[0]})
    made.append(_answered("detokenize", post("/detokenize", _JSON, rows)))
    openai = orjson.dumps({"input": texts})
    made.append(_answered("embeddings", post("/v1/embeddings", _JSON, openai)))
    for path in ("/version", "/limits", "/models", "/v1/models", "/health/live", "/metrics"):
        made.append(_answered(f"GET {path}", head("GET", path, "connection: close")))
    return made


def bad_requests() -> list[Request]:
    """Requests with one fault each, and the code that names it."""
    wav = clip("wav")
    documents: list[tuple[str, Any, ErrorCode]] = [
        ("a list", [], "malformed_body"),
        ("no inputs", {"inputs": []}, "invalid_value"),
        ("an unknown type", {"inputs": [{"type": "smell"}]}, "invalid_value"),
        ("an unknown field", _TEXT | {"x": 1}, "invalid_value"),
        ("an unknown model", _TEXT | {"model": "another"}, "model_not_found"),
        ("a URL", {"inputs": [{"type": "audio", "url": "file:///etc/passwd"}]}, "url_inputs_disabled"),
        ("no base64", {"inputs": [{"type": "audio", "data": "!"}]}, "invalid_value"),
        ("a text without words", {"inputs": [{"type": "text", "text": " "}]}, "empty_input"),
        ("a text too long", {"inputs": [{"type": "text", "text": "dog " * 6000}]}, "text_too_long"),
        ("too many inputs", {"inputs": _TEXT["inputs"] * 100}, "too_many_inputs"),
        ("a torn m4a", {"inputs": [{"type": "audio", "data": b64(clip("m4a")[:700])}]}, "media_corrupt"),
        ("noise", {"inputs": [{"type": "audio", "data": b64(bytes(range(250)) * 9)}]}, "unsupported_media"),
        ("no picture", {"inputs": [{"type": "video", "data": b64(wav)}]}, "missing_track"),
    ]
    made = [_bad(name, post("/tokenize", _JSON, orjson.dumps(body)), code) for name, body, code in documents]
    bodies: list[tuple[str, str, bytes, ErrorCode]] = [
        ("half a document", _JSON, b'{"inputs": [', "malformed_body"),
        ("deep lists", _JSON, b"[" * 100_000, "malformed_body"),
        ("a bomb of values", _JSON, b'{"inputs":[' + b"[]," * 300_000 + b"[]]}", "body_too_large"),
        ("a picture", "image/png", b"x", "unsupported_content_type"),
        ("multipart without end", "multipart/form-data; boundary=x", b"--x\r\n", "invalid_value"),
        ("an empty file", "audio/wav", b"", "empty_input"),
        ("a playlist", "audio/wav", b"ffconcat version 1.0\nfile /etc/passwd\n", "unsupported_media"),
    ]
    made += [_bad(name, post("/tokenize", kind, body), code) for name, kind, body, code in bodies]
    gzip = post("/tokenize", _JSON, b"{}", "content-encoding: gzip")
    made.append(_bad("gzip", gzip, "unsupported_content_encoding"))
    made.append(_bad("an unknown path", head("GET", "/x", "connection: close"), "not_found"))
    made.append(
        _bad("an unknown method", head("PUT", "/tokenize", "connection: close"), "method_not_allowed")
    )
    codes = post("/detokenize", _JSON, b'{"codes": [[99999]]}')
    made.append(_bad("an unknown code", codes, "code_out_of_range"))
    made.append(_bad("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, "malformed_body"))
    made.append(_bad("a head without end", b"GET / HTTP/1.1\r\nx: " + b"y" * 400_000, "malformed_body"))
    return made


def oversized_requests(draw: random.Random) -> Iterator[Request]:
    """Bodies that are announced to be too large, and bodies that turn out to be."""
    pieces = [bytes(2**18)] * (draw.randint(1, 3) + MAX_BODY_BYTES // 2**18)
    kind = "content-type: audio/wav"
    announced = head(
        "POST", "/tokenize", kind, f"content-length: {sum(map(len, pieces))}", "connection: close"
    )
    yield Request("too large, announced", [announced, *pieces], refusals=frozenset({"body_too_large"}))
    chunks = [b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces]
    start = head("POST", "/tokenize", kind, "transfer-encoding: chunked", "connection: close")
    yield Request("too large, in chunks", [start, *chunks], refusals=frozenset({"body_too_large"}))


def leaving_clients(request: Request, draw: random.Random) -> Iterator[Request]:
    """Clients that send `request`, or a part of it, and go."""
    data = b"".join(step for step in request.steps if isinstance(step, bytes))
    cut = draw.randrange(1, len(data))
    going = draw.choice([Move.LEAVE, Move.RESET])
    pause = draw.choice([0.0, 0.01, 0.1])
    gone = replace(request, answers=0)
    yield replace(gone, kind="left in the middle of a request", steps=[data[:cut], pause, going])
    yield replace(gone, kind="left before the answer", steps=[data, pause, going])
    long = {
        "inputs": [{"type": "text", "text": "rain " * 3000}],
        "return": ["embeddings"],
        "encoding_format": "float",
    }
    tasted = post("/tokenize", _JSON, orjson.dumps(long))
    yield replace(gone, kind="left in the middle of the answer", steps=[tasted, Move.TASTE, going])
    # It hangs up by half, as some do, and might read on; for the server it has left.
    yield replace(request, kind="ended by half", steps=[data, Move.END], may_go_unanswered=True)


def slow_clients(request: Request, draw: random.Random) -> Iterator[Request]:
    """Clients that send `request` in pieces, or never all of it."""
    data = b"".join(step for step in request.steps if isinstance(step, bytes))
    cuts = sorted(draw.randrange(len(data)) for _ in range(4))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    steps = [step for piece in pieces for step in (piece, draw.uniform(0.0, 0.4))]
    yield replace(request, kind="sent in pieces", steps=steps)
    top = data.index(b"\r\n\r\n") + 4
    yield Request("half a head", [data[: draw.randrange(top - 1)]], answers=0)
    if len(data) > top:
        half = [data[: draw.randrange(top, len(data))]]
        yield replace(
            request, kind="half a body", steps=half, right=None, refusals=frozenset({"deadline_exceeded"})
        )


def hurried(request: Request, draw: random.Random) -> Request:
    """`request` with less time than it may need."""
    data = b"".join(step for step in request.steps if isinstance(step, bytes))
    line, _, rest = data.partition(b"\r\n")
    steps = [line + b"\r\nx-request-timeout-ms: %d\r\n" % draw.choice([1, 3, 10, 30]) + rest]
    late: frozenset[ErrorCode] = frozenset({"deadline_exceeded"})
    return replace(request, kind="in a hurry", steps=steps, refusals=request.refusals | late)


def pipelined(count: int) -> Request:
    """`count` requests at once on one connection."""
    one = post("/tokenize", "text/plain", b"a dog barks", close=False)
    last = post("/tokenize", "text/plain", b"a dog barks")
    return Request("several at once", [one * (count - 1) + last], right=lambda _: True, answers=count)


def _good(
    name: str,
    kind: str,
    body: bytes,
    codes: list[Codes | None] | list[Codes],
    *fields: str,
    target: str = "/tokenize",
) -> Request:
    def right(answer: Answer) -> bool:
        packed = answer.headers["content-type"] == "application/msgpack"
        document = msgspec.msgpack.decode(answer.body) if packed else answer.document
        return [entry.get("codes") for entry in document["data"]] == codes

    return Request(name, [post(target, kind, body, *fields)], right=right)


def _answered(name: str, data: bytes) -> Request:
    return Request(name, [data], right=lambda answer: bool(answer.body))


def _bad(name: str, data: bytes, code: ErrorCode) -> Request:
    return Request(name, [data], refusals=frozenset({code}))


def _multipart(parts: dict[str, bytes]) -> bytes:
    disposition = 'Content-Disposition: form-data; name="{0}"; filename="../../{0}"'
    return (
        b"".join(
            b"--x\r\n" + disposition.format(name).encode() + b"\r\n\r\n" + data + b"\r\n"
            for name, data in parts.items()
        )
        + b"--x--\r\n"
    )


def _codes(encoding: Encoding) -> Codes:
    codes: Codes = encoding.codes.tolist()
    return codes
