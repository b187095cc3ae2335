"""Little that claims much, or names what is not the client's: an answer of the catalogue each, and no memory for it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media_files import clip
from tests.service.inputs import b64
from tests.service.siege import bombs
from tests.service.siege.requests import MAX_BODY_BYTES
from tests.service.siege.server import LIMITS, Besieged, besieged
from tests.service.siege.tally import LEAKS
from tests.service.siege.wire import Answer, Step, head, post, talk

_JSON = "application/json"
_MOST_MB = float(str(LIMITS["decode_memory_mb"])) + 64.0
"""What one bomb may cost: a decoder's memory, and its body a few times over."""

UNREAD = {"media_corrupt", "unsupported_media", "empty_input", "missing_track"}
LARGE = {"media_too_large", "media_too_long"}


@pytest.fixture(scope="module")
def fortress(bundle_dir: Path) -> Iterator[Besieged]:
    with besieged(bundle_dir, 1) as server:
        ask(server, post("/tokenize", "audio/wav", clip("wav")))
        yield server
        assert not server.faults()
        assert not server.deaths()


def ask(server: Besieged, *steps: Step) -> Answer:
    """The one answer."""
    (answer,) = asyncio.run(talk(server.url, steps))
    return answer


def burst(server: Besieged, *steps: Step) -> tuple[str, Answer]:
    """What becomes of a bomb, `ok` or the code; it takes no memory, and the next request is served."""
    before = server.held_mb()
    server.memory_mb.clear()
    answer = ask(server, *steps)
    most = max([*server.memory_mb, server.held_mb()])
    assert most < before + _MOST_MB
    assert ask(server, post("/tokenize", "text/plain", b"a dog barks")).status == 200
    if answer.status == 200:
        return "ok", answer
    for leak in LEAKS:
        assert leak.encode() not in answer.body
    return answer.code, answer


MEDIA: dict[str, tuple[str, Callable[[], bytes], set[str]]] = {
    "an opus of 10 hours": ("audio", lambda: bombs.opus_that_claims(10), {"ok", "media_too_long"}),
    "an opus of 50 minutes": ("audio", lambda: bombs.opus_that_claims(0.8), {"ok"}),
    "an opus of a million years": ("audio", lambda: bombs.opus_that_claims(5e7), {"ok", "media_too_long"}),
    "a wav of 4 GB": ("audio", lambda: bombs.wav_that_claims(2**32 - 1), {"ok", "media_too_long"}),
    "a wav of 2 GB": ("audio", lambda: bombs.wav_that_claims(2**31), {"ok", "media_too_long"}),
    "a wav of 4 EB": (
        "audio",
        lambda: bombs.rf64_that_claims(2**62),
        {"ok", "media_too_long", "media_corrupt"},
    ),
    "an hour and a half of silence": ("audio", lambda: bombs.silence(5400), {"media_too_long"}),
    "an m4a of years": (
        "audio",
        lambda: bombs.mp4_with("m4a", b"mdhd", 20, b"\xff\xff\xff\xf0"),
        {"ok", "media_too_long"},
    ),
    "a table of 4 G times": (
        "audio",
        lambda: bombs.mp4_with("m4a", b"stts", 8, b"\xff\xff\xff\xff"),
        {"ok", *UNREAD, *LARGE},
    ),
    "a sample that lasts for ever": (
        "audio",
        lambda: bombs.mp4_with("m4a", b"stts", 12, b"\x7f\xff\xff\xff\x7f\xff\xff\xff"),
        {"ok", *UNREAD, *LARGE},
    ),
    "a table of 2 G sizes": (
        "video",
        lambda: bombs.mp4_with("mp4", b"stsz", 8, b"\0\0\0\x01\x7f\xff\xff\xff"),
        {"ok", *UNREAD, *LARGE},
    ),
    "a table of 4 G offsets": (
        "video",
        lambda: bombs.mp4_with("mp4", b"stco", 8, b"\xff" * 4),
        {"ok", *UNREAD},
    ),
    "a sample of 4 GB": (
        "video",
        lambda: bombs.mp4_with("mp4", b"stsz", 12, b"\xff" * 4),
        {"ok", *UNREAD, *LARGE},
    ),
    "a description of 4 GB": (
        "video",
        lambda: bombs.mp4_with("mp4", b"avcC", -4, b"\xff" * 4),
        {"ok", *UNREAD},
    ),
    "1,000,000 channels": ("audio", lambda: bombs.mp4_with("m4a", b"mp4a", 20, b"\xff\xff"), {"ok", *UNREAD}),
    "a picture of 24 megapixels": ("video", lambda: bombs.large_picture(6000, 4000), {"media_too_large"}),
    "a claim of 65,535 pixels a side": (
        "video",
        lambda: bombs.mp4_with("mp4", b"avc1", 28, b"\xff" * 4),
        {"ok", "media_too_large"},
    ),
    "key frames of 16,383 pixels a side": ("video", lambda: bombs.vp8_that_claims(30_000), {*UNREAD, *LARGE}),
    "a frame of another century": ("video", lambda: bombs.late_frames("mkv", 3e9), {"media_too_long"}),
    "a frame of another day": ("video", lambda: bombs.late_frames("mp4", 90_000), {"media_too_long"}),
    "5,000 frames in a moment": ("video", lambda: bombs.many_frames(5_000, 5_000), {"ok"}),
    "3,000 tracks of an mp4": ("audio", lambda: bombs.mp4_of_many_tracks(3000), {"media_too_large"}),
    "3,000 tracks of a matroska": (
        "audio",
        lambda: bombs.matroska_of_many_tracks(3000),
        {"media_too_large", "media_corrupt"},
    ),
    "a void of 64 PB": ("audio", lambda: bombs.matroska_with(bombs.void(2**56 - 2, 100)), {"ok", *UNREAD}),
    "a void of 3 MB": (
        "audio",
        lambda: bombs.matroska_with(bombs.void(3 * 2**20, 3 * 2**20)),
        {"ok", *UNREAD},
    ),
    "100,000 cues": ("audio", lambda: bombs.matroska_with(bombs.cues(100_000)), {"ok", *UNREAD}),
    "10,000 tags in each other": (
        "audio",
        lambda: bombs.matroska_with(bombs.nested(10_000)),
        {"ok", *UNREAD},
    ),
    "a matroska of nanoseconds": (
        "audio",
        lambda: clip("mka").replace(b"\x2a\xd7\xb1\x83\x0f\x42\x40", b"\x2a\xd7\xb1\x83\xff\xff\xff"),
        {"ok", *UNREAD, *LARGE},
    ),
    "pictures of a camera": ("video", bombs.picture_in("mjpeg", "yuvj420p"), {"unsupported_media"}),
    "pictures in PNG": ("video", bombs.picture_in("png", "rgb24"), {"unsupported_media"}),
    "pictures in JPEG 2000": ("video", bombs.picture_in("jpeg2000", "rgb24"), {"unsupported_media"}),
    "attachments": ("audio", bombs.with_more_streams, {"ok"}),
    "a zip": ("audio", lambda: b"PK\x03\x04" + bytes(4000), {"unsupported_media"}),
    "4 MB of nothing": ("audio", lambda: bytes(MAX_BODY_BYTES), {"unsupported_media"}),
}


@pytest.mark.parametrize("name", MEDIA)
def test_media_that_claims_much(fortress: Besieged, name: str) -> None:
    modality, make, expected = MEDIA[name]
    said, answer = burst(fortress, post("/tokenize", f"{modality}/x", make()))
    assert said in expected, answer.body[:500]
    if said == "ok":
        assert answer.document["data"][0]["segments"]["count"] <= 3601


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "ffconcat of options": "ffconcat version 1.0\nfile 'x'\noption protocol_whitelist file,http,tcp\nfile '{target}'\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
    "HLS with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n',
    "DASH": '<?xml version="1.0"?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>',
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
    "PLS": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "XSPF": '<playlist xmlns="http://xspf.org/ns/0/"><track><location>{target}</location></track></playlist>',
    "SMIL": '<smil><body><audio src="{target}"/></body></smil>',
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_what_names_another_place_goes_nowhere(fortress: Besieged, name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(clip("wav"))
    with socket.create_server(("127.0.0.1", 0)) as network:
        port = network.getsockname()[1]
        for target in (
            str(secret),
            f"file://{secret}",
            f"http://127.0.0.1:{port}/a.wav",
            f"tcp://127.0.0.1:{port}",
        ):
            body = PLAYLISTS[name].format(target=target, port=port).encode()
            said, _ = burst(fortress, post("/tokenize", "audio/x", body))
            assert said == "unsupported_media"
        network.settimeout(0.05)
        with pytest.raises(TimeoutError):
            network.accept()


def _reference(target: str) -> bytes:
    """A film whose samples lie in another file: a data reference that is not to itself."""
    data = clip("mov")
    place = target.encode() + b"\0"
    url = (12 + len(place)).to_bytes(4, "big") + b"url \0\0\0\0" + place
    return data.replace(b"\0\0\0\x0curl \0\0\0\x01", url)


def test_samples_in_another_file_are_not_read(fortress: Besieged, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as network:
        for target in ("file:///etc/passwd", f"http://127.0.0.1:{network.getsockname()[1]}/x"):
            said, _ = burst(fortress, post("/tokenize", "video/x", _reference(target)))
            assert said in {"ok", *UNREAD}
        network.settimeout(0.05)
        with pytest.raises(TimeoutError):
            network.accept()


def inputs(*entries: Any) -> bytes:
    return json.dumps({"inputs": entries}).encode()


def text(value: str) -> bytes:
    return inputs({"type": "text", "text": value})


def written(characters: bytes) -> bytes:
    """A text as it is written in JSON."""
    return b'{"inputs": [{"type": "text", "text": "' + characters + b'"}]}'


def features(shape: list[int], data: bytes, **more: Any) -> bytes:
    return inputs({"type": "features", "modality": "audio", "shape": shape, "data": b64(data), **more})


def keys(count: int) -> bytes:
    return b'{"inputs": [], ' + b",".join(b'"%d": 0' % number for number in range(count)) + b"}"


TREES: dict[str, tuple[bytes, set[str]]] = {
    "lists in lists": (b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {"malformed_body"}),
    "objects in objects": (b'{"inputs": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, {"malformed_body"}),
    "a hundred thousand keys": (keys(100_000), {"invalid_value"}),
    "more keys than values are read": (keys(290_000), {"body_too_large"}),
    "a number of a million digits": (b'{"inputs": ' + b"9" * 1_000_000 + b"}", {"malformed_body"}),
    "a number beyond all numbers": (
        inputs({"type": "audio", "data": "", "start_sec": 1}).replace(b"1}", b"1e999999}"),
        {"invalid_value"},
    ),
    "an exponent of a million digits": (b'{"inputs": 1e' + b"9" * 1_000_000 + b"}", {"invalid_value"}),
    "a million escapes": (written(b"\\u0041" * 500_000), {"text_too_long"}),
    "escapes of NUL": (written(b"\\u0000" * 15_000), {"empty_input"}),
    "half a pair of surrogates": (written(b"dog \\ud800 \\udfff"), {"ok", "invalid_value"}),
    "surrogates in a key": (b'{"inputs": [], "\\ud800": 1}', {"invalid_value"}),
    "surrogates in an id": (b'{"inputs": [{"type": "text", "text": "dog", "id": "\\ud800"}]}', {"ok", "invalid_value"}),
    "surrogates in a model": (b'{"inputs": [{"type": "text", "text": "dog"}], "model": "\\ud800"}', {
        "model_not_found",
        "invalid_value",
    }),
    "letters under letters": (text("a" + "\u0301" * 19_000), {"ok", "empty_input"}),
    "words of marks alone": (text("\u0301 " * 9_000), {"ok", "empty_input"}),
    "right to left": (text("\u202e\u2067 dog \u200f" * 1000), {"ok"}),
    "one word of 20,000 letters": (text("a" * 20_000), {"ok"}),
    "20,000 letters of Asia": (text("\u72d7" * 20_000), {"ok"}),
    "flags and families": (
        text("\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea " * 1500),
        {"ok", "empty_input"},
    ),
    "a shape of 2^60": (features([2**30, 2**30], b"x"), {"invalid_value"}),
    "a shape of 2^60, in one": (features([2**60, 1], b"x"), {"invalid_value"}),
    "a shape of nothing": (features([0, 24], b""), {"invalid_value"}),
    "a shape of a hundred axes": (features([1] * 100, b"abcd"), {"invalid_value"}),
    "no bytes": (features([1, 24], b""), {"invalid_value"}),
    "no numbers": (features([2, 24], np.full((2, 24), np.nan, "<f4").tobytes()), {"invalid_value"}),
    "64 inputs of no base64": (inputs(*[{"type": "audio", "data": "A" * 20_001}] * 64), {"invalid_value"}),
    "base64 of nothing": (inputs({"type": "audio", "data": ""}), {"empty_input"}),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_documents_that_are_large_deep_or_odd(fortress: Besieged, name: str) -> None:
    body, expected = TREES[name]
    for kind in (_JSON, "multipart/form-data; boundary=x"):
        part = b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n' + body + b"\r\n--x--\r\n"
        said, answer = burst(fortress, post("/tokenize", kind, body if kind == _JSON else part))
        assert said in expected, answer.body[:500]
        assert len(answer.body) < 2_000_000


def part(name: str, data: bytes, filename: str | None = None, *headers: bytes) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    return b"--x\r\n" + b"\r\n".join([disposition.encode(), *headers, b"", data, b""])


ONE_FILE = part("request", inputs({"type": "audio"}))
FORMS: dict[str, tuple[bytes, set[str]]] = {
    "20,000 parts": (ONE_FILE + part("a", b"") * 20_000 + b"--x--", {"malformed_body"}),
    "20,000 files": (ONE_FILE + part("a", b"", "a") * 20_000 + b"--x--", {"body_too_large"}),
    "a part with 20,000 headers": (
        part("request", b"{}", None, *[b"x-%d: y" % number for number in range(20_000)]) + b"--x--",
        {"malformed_body", "invalid_value"},
    ),
    "a header of a megabyte": (
        part("request", b"{}", None, b"x: " + b"y" * 2**20) + b"--x--",
        {"malformed_body", "invalid_value"},
    ),
    "a name of a megabyte": (part("a" * 2**20, b"{}") + b"--x--", {"malformed_body", "invalid_value"}),
    "a part without end": (b'--x\r\nContent-Disposition: form-data; name="request"\r\n\r\n' + b"y" * 2**20, {
        "malformed_body",
        "invalid_value",
    }),
    "boundaries that nearly are": (ONE_FILE + part("f", b"\r\n--y" * 200_000, "f") + b"--x--", {"unsupported_media"}),
    "two documents": (ONE_FILE * 2 + b"--x--", {"invalid_value", "malformed_body"}),
    "a name that is a path": (ONE_FILE + part("f", clip("wav"), "../../../../etc/passwd") + b"--x--\r\n", {"ok"}),
    "a name that is a command": (ONE_FILE + part("f", clip("wav"), "|id;$(id)") + b"--x--\r\n", {"ok"}),
    "a name of another script": (ONE_FILE + part("f", clip("wav"), "\u202efdp.wav\0") + b"--x--\r\n", {
        "ok",
        "malformed_body",
    }),
    "an encoding of parts": (
        ONE_FILE + part("f", clip("wav"), "f", b"Content-Transfer-Encoding: base64") + b"--x--\r\n",
        {"ok", "unsupported_media"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_many_or_endless_parts(fortress: Besieged, name: str) -> None:
    body, expected = FORMS[name]
    said, answer = burst(fortress, post("/tokenize", "multipart/form-data; boundary=x", body))
    assert said in expected, answer.body[:500]


@pytest.mark.parametrize("boundary", ["", "x" * 60_000, '"', "\xff", "x; boundary=y"])
def test_odd_boundaries(fortress: Besieged, boundary: str) -> None:
    body = ONE_FILE + part("f", clip("wav"), "f") + b"--x--\r\n"
    said, _ = burst(fortress, post("/tokenize", f"multipart/form-data; boundary={boundary}", body))
    assert said in {"ok", "malformed_body", "invalid_value"}


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (post("/tokenize", _JSON, b"\x1f\x8b" + bytes(1000), "content-encoding: gzip"), "unsupported_content_encoding"),
        (post("/tokenize", _JSON, b"\x1f\x8b" + bytes(1000)), "malformed_body"),
        (post("/tokenize", "application/msgpack", b"\x81\xa6inputs\xdd\xff\xff\xff\xff"), "unsupported_content_type"),
        (post("/tokenize", _JSON, b"[]", "accept: application/msgpack"), "malformed_body"),
        (post("/tokenize?shape=" + "1," * 20_000, "application/octet-stream", b""), "invalid_value"),
        (
            post("/tokenize?modality=audio&shape=1152921504606846976,1", "application/octet-stream", b""),
            "invalid_value",
        ),
        (post("/tokenize?modality=audio&shape=1,1,1,1,1,1,1", "application/octet-stream", b"abcd"), "invalid_value"),
        (post("/tokenize?" + "return=codes&" * 4000, "text/plain", b"dog"), "invalid_value"),
        (post("/tokenize?start_sec=1e400", "audio/wav", clip("wav")), "invalid_value"),
        (post("/tokenize?end_sec=-1", "audio/wav", clip("wav")), "invalid_value"),
        (post("/tokenize?start_sec=1e300", "audio/wav", clip("wav")), "invalid_value"),
        (post("/detokenize", _JSON, b'{"codes": [[%d]]}' % 2**70), "invalid_value"),
        (post("/detokenize", _JSON, b'{"codes": ' + str([[0]] * 70_000).encode() + b"}"), "too_many_segments"),
        (post("/v1/embeddings", _JSON, b'{"input": ["\\ud800"], "user": "\\u0000"}'), "empty_input"),
        (head("GET", "/v1/models/" + "..%2f" * 5000, "connection: close"), "not_found"),
        (head("GET", "/v1/models/%00%ff%ed%a0%80", "connection: close"), "model_not_found"),
        (head("TRACE", "/tokenize", "connection: close"), "method_not_allowed"),
    ],
    ids=range(17),
)  # fmt: skip
def test_requests_that_are_odd(fortress: Besieged, request_bytes: bytes, expected: str) -> None:
    said, answer = burst(fortress, request_bytes)
    assert said == expected, answer.body[:500]
