"""URL inputs against a real https server: what is fetched, and what a peer, a resolver or a client cannot do."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trustme
from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission import OwnRoom
from service.errors import ApiError
from service.metrics import Metrics
from service.middleware import BodyLimit
from service.request import Item
from service.schemas import AudioInput, FeaturesInput, TextInput
from service.security.fetcher import Fetcher
from service.settings import Settings
from service.trace import Trace
from tests.service.security.peer import Peer, Talk, peer
from tests.service.small_server import response

NAME = "media.example.org"
SOUND = bytes(range(256)) * 1000
SECRET = "tsr_in_the_url"


async def endlessly(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write until the client is gone."""
    while not writer.is_closing():
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0)  # else nobody finds out that it is


async def talk(path: str, writer: asyncio.StreamWriter) -> None:
    """What the peer does: the path says how ill it is."""
    match path.partition("?")[0]:
        case "/good":
            writer.write(response(SOUND, "200 OK", "Content-Type: text/html", "Set-Cookie: a=b"))
        case "/text":
            writer.write(response(b"a dog barks"))
        case "/chunked":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(SOUND), 10_000):
                part = SOUND[start : start + 10_000]
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            writer.write(b"0\r\n\r\n")
        case "/redirect":
            writer.write(response(b"", "302 Found", "Location: https://169.254.169.254/"))
        case "/missing":
            writer.write(response(b"a secret of the peer", "404 Not Found"))
        case "/part":
            writer.write(response(b"some", "206 Partial Content", "Content-Range: bytes 0-3/9"))
        case "/packed":
            writer.write(response(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"))
        case "/declares":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        case "/lies-short":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
        case "/lies-long":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour and more")
        case "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await endlessly(writer, bytes(100_000))
        case "/crumbs":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await endlessly(writer, b"1\r\nx\r\n" * 10_000)
        case "/informs":
            await endlessly(writer, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
        case "/endless-head":
            writer.write(b"HTTP/1.1 200 OK\r\n")
            await endlessly(writer, b"X-More: " + b"x" * 1000 + b"\r\n")
        case "/slow":
            for byte in b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
        case "/silent":
            await asyncio.sleep(300)
        case "/no-http":
            writer.write(b"220 mail.example.org ESMTP\r\n")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def other(authority: trustme.CA) -> Iterator[Peer]:
    with peer(talk, authority, NAME) as running:
        yield running


class Resolver:
    """Answers with each list of addresses once, then with the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: object) -> list[Any]:
        self.asked.append(host)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


HERE = Resolver(["127.0.0.1"])


def sound(url: str) -> AudioInput:
    return AudioInput(type="audio", url=url, id="mine")


class Fetch:
    """What becomes of inputs; and what is held while they are used."""

    def __init__(self, other: Peer, resolve: Callable[..., list[Any]] = HERE, **settings: Any) -> None:
        hosts = settings.pop("url_hosts", f"private:{NAME}:{other.port}")
        self.settings = Settings.load(url_hosts=hosts, **settings)
        self.room = OwnRoom(self.settings.max_held_bytes)
        self.metrics = Metrics()
        self.fetcher = Fetcher(self.settings, self.metrics, resolve=resolve)
        self.fetcher._trust = other.trust
        self.url = f"https://{NAME}:{other.port}"
        self.held = 0

    def all(self, *items: Item) -> list[Item | ApiError]:
        filled: list[Item | ApiError] = []

        async def fetching(scope: Scope, receive: Receive, send: Send) -> None:
            filled.extend(await self.fetcher.fetched(items, Trace.of(scope).hold))
            self.held = self.room.used

        try:
            asyncio.run(self._within_the_limit(fetching))
        finally:
            self.fetcher.close()
            assert self.room.used == 0, "what was held is given back"
        return filled

    async def _within_the_limit(self, app: ASGIApp) -> None:
        async def nothing(*_: object) -> Any:
            raise AssertionError("neither is the body read, nor an answer sent")

        scope: Scope = {"type": "http", "headers": []}
        Trace.begin(scope)
        await BodyLimit(app, self.settings, self.room)(scope, nothing, nothing)

    def error(self, path: str) -> ApiError:
        (item,) = self.all(sound(self.url + path))
        assert isinstance(item, ApiError), item
        assert item.param == "url"
        return item


@pytest.mark.parametrize("path", ["/good", "/chunked"])
def test_a_file_is_fetched_as_it_is(other: Peer, path: str) -> None:
    fetch = Fetch(other)
    here = TextInput(type="text", text="here")
    fetched, same = fetch.all(sound(f"{fetch.url}{path}?token={SECRET}"), here)
    assert isinstance(fetched, AudioInput)
    assert (fetched.data, fetched.id) == (SOUND, "mine")
    assert same is here
    assert fetch.held == len(SOUND)
    head = other.heads[-1].decode()
    assert head.startswith(f"GET {path}?token={SECRET} HTTP/1.1\r\nHost: {NAME}:{other.port}\r\n")
    assert "authorization" not in head.lower()
    assert "cookie" not in head.lower()


def test_texts_and_features_are_fetched_too(other: Peer) -> None:
    fetch = Fetch(other)
    shape = [1, len(SOUND) // 4]
    text, features, bad = fetch.all(
        TextInput(type="text", url=fetch.url + "/text"),
        FeaturesInput(type="features", modality="audio", shape=shape, url=fetch.url + "/good"),
        TextInput(type="text", url=fetch.url + "/good"),
    )
    assert isinstance(text, TextInput)
    assert text.text == "a dog barks"
    assert isinstance(features, FeaturesInput)
    assert features.data == SOUND
    assert isinstance(bad, ApiError)
    assert bad.code == "invalid_value"


ILL = [
    "/redirect",
    "/missing",
    "/part",
    "/packed",
    "/lies-short",
    "/crumbs",
    "/endless-head",
    "/no-http",
    "/closes",
]


@pytest.mark.parametrize("path", ILL)
def test_whatever_a_peer_does_the_same_sentence_is_said(
    other: Peer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "service")
    error = Fetch(other).error(f"{path}?token={SECRET}")
    assert (error.code, error.message) == ("url_not_fetched", "the URL gave no file in time")
    assert SECRET not in caplog.text
    assert "secret of the peer" not in caplog.text


@pytest.mark.parametrize("path", ["/slow", "/silent", "/informs"])
def test_a_slow_peer_is_not_waited_for(other: Peer, path: str) -> None:
    error = Fetch(other, max_url_seconds=0.3).error(path)
    assert (error.code, error.message) == ("url_not_fetched", "the URL gave no file in time")


@pytest.mark.parametrize("path", ["/endless", "/declares", "/good"])
def test_no_more_is_taken_than_an_input_may_have(other: Peer, path: str) -> None:
    error = Fetch(other, max_media_bytes=200_000).error(path)
    assert (error.code, error.limit) == ("media_too_large", 200_000)


def test_more_than_was_declared_is_not_read(other: Peer) -> None:
    fetch = Fetch(other)
    (item,) = fetch.all(sound(fetch.url + "/lies-long"))
    assert isinstance(item, AudioInput)
    assert item.data == b"four"


def test_what_is_fetched_has_its_room_among_the_bodies(other: Peer) -> None:
    fetch = Fetch(other, max_held_bytes=2**20, max_body_bytes=2**20, max_open_urls=1)  # one by one
    outcomes = fetch.all(*(sound(fetch.url + "/good") for _ in range(5)))
    codes = [item.code if isinstance(item, ApiError) else "ok" for item in outcomes]
    assert sorted(codes) == ["ok"] * 4 + ["overloaded"]


def test_a_request_has_few_urls(other: Peer) -> None:
    fetch = Fetch(other, max_request_urls=2)
    with pytest.raises(ApiError) as refused:
        fetch.all(*(sound(fetch.url + "/good") for _ in range(3)))
    assert refused.value.code == "too_many_inputs"
    assert refused.value.setting == "TESSERA_MAX_REQUEST_URLS"


def test_few_are_fetched_at_once(authority: trustme.CA) -> None:
    now = most = 0

    async def counted(path: str, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        writer.write(response(b"x"))

    with peer(counted, authority, NAME) as other:
        fetch = Fetch(other, max_open_urls=2)
        fetch.all(*(sound(fetch.url) for _ in range(6)))
    assert most == 2


def test_the_certificate_has_to_be_that_of_the_host(other: Peer, authority: trustme.CA) -> None:
    quiet: Talk = talk
    with (
        peer(quiet, authority, "elsewhere.example.org") as impostor,
        peer(quiet, trustme.CA(), NAME) as stranger,
    ):
        for wrong in (impostor, stranger):
            fetch = Fetch(wrong)
            fetch.fetcher._trust = other.trust
            assert fetch.error("/good").code == "url_not_fetched"
            assert wrong.heads == []


def test_a_name_that_resolves_to_another_address_later_is_asked_once(other: Peer) -> None:
    resolve = Resolver(["127.0.0.1"], ["169.254.169.254"])
    fetch = Fetch(other, resolve)
    (item,) = fetch.all(sound(fetch.url + "/good"))
    assert isinstance(item, AudioInput)
    assert resolve.asked == [NAME]


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["127.0.0.1", "169.254.169.254"],
        ["::ffff:169.254.169.254"],
        ["fd00:ec2::254"],
        [],
    ],
)
def test_not_even_a_private_host_leads_to_the_metadata_of_a_cloud(other: Peer, addresses: list[str]) -> None:
    assert Fetch(other, Resolver(addresses)).error("/good").code == "url_not_fetched"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "fd12::1", "100.64.0.1"]
)
def test_a_public_host_leads_to_no_private_address(other: Peer, address: str) -> None:
    before = len(other.heads)
    fetch = Fetch(other, Resolver(["8.8.8.8", address]), url_hosts=f"{NAME}:{other.port}")
    assert fetch.error("/good").code == "url_not_fetched"
    assert len(other.heads) == before


def test_a_resolver_that_fails_or_hangs_is_a_peer_that_fails(other: Peer) -> None:
    def fails(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "a word of the resolver")

    assert Fetch(other, fails).error("/good").message == "the URL gave no file in time"


def test_an_address_that_does_not_answer_is_passed_over(other: Peer) -> None:
    fetch = Fetch(other, Resolver(["127.0.0.2", "127.0.0.1"]))
    (item,) = fetch.all(sound(fetch.url + "/good"))
    assert isinstance(item, AudioInput)


def test_proxies_of_the_environment_are_not_used(other: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    fetch = Fetch(other)
    assert isinstance(fetch.all(sound(fetch.url + "/good"))[0], AudioInput)


def test_without_hosts_nothing_is_fetched(other: Peer) -> None:
    fetch = Fetch(other, url_hosts="")
    fetch.fetcher._trust = None
    assert fetch.error("/good").code == "url_inputs_disabled"


def test_what_became_of_urls_is_counted(other: Peer) -> None:
    fetch = Fetch(other)
    fetch.all(
        *(sound(url) for url in (fetch.url + "/good", fetch.url + "/missing", "https://elsewhere.example/"))
    )
    text = fetch.metrics.exposition().decode()
    for outcome in ("fetched", "url_not_fetched", "url_not_allowed"):
        assert f'tessera_url_inputs_total{{outcome="{outcome}"}} 1.0' in text
