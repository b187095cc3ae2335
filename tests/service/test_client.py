"""`tessera.client` against a real server: every kind of input, many files, and the command that uses it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tessera import Codes, Encoding
from tessera.client import (
    AsyncClient,
    Client,
    Features,
    Media,
    RequestRefused,
    ServerUnavailable,
    TesseraApiError,
    Text,
    Tokens,
)
from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, sound_file
from tests.service.running import RunningServer, running_server

TEXT = "a dog barks in the rain, and a bell rings"
VECTORS = ("margins", "embeddings", "latents", "pooled")


@pytest.fixture(scope="module")
def asking(server: RunningServer) -> Iterator[Client]:
    with Client(server.url, timeout=900) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path, wav: bytes, mp4: bytes) -> Path:
    """A sound, a film, a text."""
    (tmp_path / "sound.wav").write_bytes(wav)
    (tmp_path / "film.mp4").write_bytes(mp4)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def assert_equal(tokens: object, encoding: Encoding, *, vectors: bool = False) -> None:
    assert isinstance(tokens, Tokens)
    assert tokens.to_json() == encoding.to_json()
    for name in VECTORS:
        values = getattr(tokens, name)
        if vectors:
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, getattr(encoding, name), rtol=1e-4, atol=1e-4)
        else:
            assert values is None


def test_every_kind_of_input_has_the_codes_of_the_library(
    asking: Client, tokenizer: Tokenizer, folder: Path, wav: bytes, mp4: bytes
) -> None:
    features = np.random.default_rng(0).normal(size=(4, *tokenizer.feature_shape("audio"))).astype("f4")
    inputs = [
        folder / "sound.wav",
        str(folder / "film.mp4"),
        folder / "text.txt",
        wav,
        mp4,
        Media(mp4, "audio"),
        Media(folder / "sound.wav", start_sec=1, end_sec=4),
        Text(TEXT),
        Features(features, "audio"),
    ]
    expected = [
        tokenizer.encode(wav),
        tokenizer.encode(mp4),
        tokenizer.encode_text(TEXT),
        tokenizer.encode(wav),
        tokenizer.encode(mp4),
        tokenizer.encode(mp4, "audio"),
        tokenizer.encode(wav, start_sec=1, end_sec=4),
        tokenizer.encode_text(TEXT),
        tokenizer.encode_features("audio", features),
    ]
    for returns in ((), VECTORS):
        together = asking.tokenize(inputs, returns=returns)
        assert len(together) == len(inputs)
        for tokens, source, encoding in zip(together, inputs, expected, strict=True):
            assert_equal(tokens, encoding, vectors=bool(returns))
            (alone,) = asking.tokenize(source, returns=returns)
            assert_equal(alone, encoding, vectors=bool(returns))


def test_half_precision_on_the_wire(asking: Client, tokenizer: Tokenizer) -> None:
    halves = np.ones((2, *tokenizer.feature_shape("audio")), np.float16)
    (tokens,) = asking.tokenize(Features(halves, "audio"), returns=["embeddings"], dtype="float16")
    expected = tokenizer.encode_features("audio", halves.astype(np.float32)).embeddings
    assert tokens.embeddings is not None
    np.testing.assert_array_equal(tokens.embeddings, expected.astype(np.float16).astype(np.float32))


def test_detokenize_gives_the_embeddings_of_the_codes(asking: Client) -> None:
    (tokens,) = asking.tokenize(Text(TEXT), returns=["embeddings"])
    np.testing.assert_array_equal(asking.detokenize(tokens.codes), tokens.embeddings)
    with pytest.raises(RequestRefused) as caught:
        asking.detokenize([[99_999]])
    assert caught.value.code == "code_out_of_range"


def test_what_the_server_is(asking: Client, tokenizer: Tokenizer) -> None:
    (model,) = asking.models()
    assert model.id == tokenizer.manifest.name
    assert model.model_revision == tokenizer.bundle.revision
    assert model.feature_shapes["audio"] == list(tokenizer.feature_shape("audio"))
    assert asking.limits()["max_inputs"].value == 64
    assert asking.ready()


def test_a_refusal_says_what_the_server_said(asking: Client, wav: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        asking.tokenize([wav, Media(b"no media at all", "audio")])
    error = caught.value
    assert (error.code, error.param, error.status) == ("unsupported_media", "inputs[1].data", 415)
    assert error.message.startswith("inputs[1]: not media")
    assert not error.retryable
    assert len(error.request_id) == 32
    with pytest.raises(RequestRefused) as caught:
        asking.tokenize(Text(TEXT), model="another")
    assert caught.value.code == "model_not_found"
    with pytest.raises(FileNotFoundError):
        asking.tokenize("no/such/file.wav")


def test_a_partial_answer_has_errors_in_their_places(
    asking: Client, tokenizer: Tokenizer, wav: bytes
) -> None:
    good, torn, empty, long, half = asking.tokenize_partial(
        [wav, b"no media at all", Text(" "), Text("dog " * 6_000), Text("half a letter: \ud83d")]
    )
    assert_equal(half, tokenizer.encode_text("half a letter: \ud83d"))
    assert_equal(good, tokenizer.encode(wav))
    assert isinstance(torn, RequestRefused)
    assert torn.message.startswith("not media")
    assert torn.param == "data"
    assert isinstance(empty, TesseraApiError)
    assert empty.code == "empty_input"
    assert isinstance(long, TesseraApiError)
    assert (long.code, long.limit) == ("text_too_long", 20_000)
    (cut,) = asking.tokenize(Text("dog " * 6_000), truncate="end")
    assert cut.truncated


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """Sounds of many lengths, some damaged, one missing, texts between them."""
    paths = []
    for index in range(24):
        path = tmp_path / f"{index:02}.wav"
        path.write_bytes(sound_file("wav", chirp(0.5 + index / 10), 16_000))
        if index % 7 == 3:
            path.write_bytes(b"damaged")
        paths.append(path)
        paths.append(tmp_path / f"{index:02}.txt")
        paths[-1].write_text("dog " * (1 + index))
    paths.insert(5, tmp_path / "missing.wav")
    return paths


def check_many(results: list[tuple[Any, Any]], many: list[Path], tokenizer: Tokenizer) -> None:
    assert [path for path, _ in results] == many
    for path, outcome in results:
        if path.name == "missing.wav":
            assert isinstance(outcome, FileNotFoundError)
        elif path.read_bytes() == b"damaged":
            assert isinstance(outcome, RequestRefused)
            assert outcome.message.startswith("not media")
        else:
            assert_equal(outcome, tokenizer.encode(path))


@pytest.mark.parametrize("concurrency", [1, 5])
def test_many_files_each_have_their_codes_or_their_error(
    asking: Client, server: RunningServer, tokenizer: Tokenizer, many: list[Path], concurrency: int
) -> None:
    results = list(asking.tokenize_files(many, progress=False, concurrency=concurrency))
    check_many(results, many, tokenizer)

    async def scenario() -> list[tuple[Any, Any]]:
        async with AsyncClient(server.url, timeout=900) as client:
            files = client.tokenize_files(iter(many), progress=False, concurrency=concurrency)
            return [named async for named in files]

    check_many(asyncio.run(scenario()), many, tokenizer)


def test_a_small_server_gets_small_requests(bundle_dir: Path, tokenizer: Tokenizer, many: list[Path]) -> None:
    """Limits that /limits tells are kept; what is refused for its neighbours' sake is sent alone."""
    size = max(path.stat().st_size for path in many if path.exists())
    limits = {
        "max_inputs": 7,
        "max_body_bytes": size + 2000,
        "max_queue_segments": 30,
        "max_request_segments": 26,
    }
    with running_server(bundle_dir, **limits) as server, Client(server.url, timeout=900) as client:
        check_many(list(client.tokenize_files(many, progress=False)), many, tokenizer)
        large = many[0].with_name("large.wav")
        large.write_bytes(bytes(size + 2001))
        ((path, outcome), (_, good)) = client.tokenize_files([large, many[1]])
        assert path == large
        assert isinstance(outcome, RequestRefused)
        assert (outcome.code, outcome.actual) == ("body_too_large", size + 2001)
        assert outcome.setting == "TESSERA_MAX_BODY_BYTES"
        assert isinstance(good, Tokens)


def test_a_server_that_goes_away_is_the_error_of_each_file(bundle_dir: Path, many: list[Path]) -> None:
    with running_server(bundle_dir) as server, Client(server.url, timeout=2) as client:
        files = client.tokenize_files(many * 6, concurrency=2)
        next(files)
        server.process.kill()
        outcomes = [outcome for _, outcome in files]
    assert len(outcomes) == len(many) * 6 - 1
    assert isinstance(outcomes[-1], ServerUnavailable)
    with Client(server.url, timeout=0.5) as client, pytest.raises(ServerUnavailable):
        list(client.tokenize_files(many))


def test_a_caller_may_stop_early(asking: Client, server: RunningServer, many: list[Path]) -> None:
    for path, _ in asking.tokenize_files(many * 5):
        assert path == many[0]
        break
    assert len(asking.tokenize(Text(TEXT))) == 1

    async def scenario() -> int:
        async with AsyncClient(server.url, timeout=900) as client:
            files = client.tokenize_files(many * 5)
            await anext(files)
            await files.aclose()  # type: ignore[attr-defined]
            return len(await client.tokenize([Text(TEXT)]))

    assert asyncio.run(scenario()) == 1
    with pytest.raises(ValueError, match="concurrency"):
        next(asking.tokenize_files(many, concurrency=0))


def test_the_bar_counts_files_and_failures(
    asking: Client, many: list[Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(asking.tokenize_files(many))
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    list(asking.tokenize_files(many))
    out, err = capfd.readouterr()
    assert out == ""
    assert "49/49" in err
    assert "4 failed" in err
    list(asking.tokenize_files(many, progress=False))
    assert capfd.readouterr() == ("", "")


def test_the_asynchronous_client_does_the_same(
    server: RunningServer, asking: Client, tokenizer: Tokenizer, wav: bytes, folder: Path
) -> None:
    async def scenario() -> None:
        async with AsyncClient(server.url, timeout=900) as client:
            for tokens in await asyncio.gather(*(client.tokenize(wav, returns=VECTORS) for _ in range(8))):
                assert_equal(tokens[0], tokenizer.encode(wav), vectors=True)
            (tokens,) = await client.tokenize(folder / "text.txt")
            assert_equal(tokens, tokenizer.encode_text(TEXT))
            (error,) = await client.tokenize_partial(Text(""))
            assert isinstance(error, RequestRefused)
            assert await client.models() == asking.models()
            assert await client.limits() == asking.limits()
            assert await client.ready()
            np.testing.assert_array_equal(
                await client.detokenize(tokens.codes), asking.detokenize(tokens.codes)
            )
            with pytest.raises(RequestRefused):
                await client.tokenize([Text("")])

    asyncio.run(scenario())


def test_the_command_asks_a_server_and_says_the_same(
    server: RunningServer, bundle_dir: Path, folder: Path
) -> None:
    (folder / "bad.wav").write_bytes(b"no sound at all")
    sources = [*map(str, sorted(folder.iterdir())), str(folder / "missing.wav"), "--text", TEXT]

    def tokenize(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tessera", "tokenize", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=900)

    for form in ("--json", "--table"):
        here = tokenize(*sources, form, "--bundle", str(bundle_dir))
        there = tokenize(*sources, form, "--server", server.url)
        assert (there.returncode, there.stderr) == (here.returncode, here.stderr) == (1, here.stderr)
        assert "bad.wav: not media" in there.stderr
        assert there.stdout == here.stdout
    lines = tokenize(str(folder / "film.mp4"), "--json", "--server", server.url, "--modality", "audio").stdout
    assert Codes.from_json(json.loads(lines)).modality == "audio"
    assert "not the address of a server" in tokenize("--text", "x", "--server", "nowhere").stderr
    assert "give --server or --bundle" in tokenize("-t", "x", "--server", server.url, "-b", "x").stderr
    nobody = tokenize("--text", "x", "--server", "http://127.0.0.1:1")
    assert (nobody.returncode, nobody.stderr) == (2, "tessera: no server answers at http://127.0.0.1:1\n")
