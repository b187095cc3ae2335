"""Decoders that die, hang or go mad: the clip is read all the same, or its sender is told; nobody else notices."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.decoding.memory import SharedMemory
from service.decoding.messages import Take
from service.decoding.process import Decoder, Died
from service.decoding.processes import ProcessDecoding
from tessera.errors import InputError
from tessera.limits import Limits
from tessera.opener import ClipOpener
from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, clip, sound_file
from tests.service.decoding.reading import decoder_processes, media, read, read_whole, with_decoders
from tests.service.running import running_server

LONG = sound_file("flac", chirp(65.0), 16_000)


def test_a_clip_goes_on_where_its_decoder_died(tokenizer: Tokenizer) -> None:
    expected = [window.inputs["waveform"] for window in tokenizer.open(LONG, "audio")]

    async def interrupted(decoding: ProcessDecoding) -> None:
        reader = decoding.reader(tokenizer, media("audio", LONG), "none")
        windows = await reader.take(2)
        for process in decoder_processes():
            process.kill()
            process.wait(60)
        windows += await reader.take(3)
        rest, _ = await read(reader)
        for window, samples in zip([*windows, *rest], expected, strict=True):
            np.testing.assert_array_equal(window.inputs["waveform"], samples)

    with_decoders(interrupted)


def test_the_nursery_is_replaced_too(tokenizer: Tokenizer) -> None:
    async def orphaned(decoding: ProcessDecoding) -> None:
        await read_whole(decoding, tokenizer, media("audio", clip("wav")))
        (nursery,) = {process.parent() for process in decoder_processes()}
        assert nursery is not None
        for process in [nursery, *decoder_processes()]:
            process.kill()
        await read_whole(decoding, tokenizer, media("audio", clip("wav")))
        assert len(decoder_processes()) == 1

    with_decoders(orphaned)


def test_media_that_needs_too_much_memory_is_refused(tokenizer: Tokenizer) -> None:
    opener = ClipOpener(tokenizer.bundle, Limits(max_media_bytes=2**28))
    large = clip("wav") + bytes(2**27)

    async def refused(decoding: ProcessDecoding) -> None:
        with pytest.raises(InputError) as error:
            await read_whole(decoding, opener, media("audio", large))
        assert error.value.code == "media_corrupt"
        await read_whole(decoding, tokenizer, media("audio", clip("wav")))

    with_decoders(refused, decode_memory_mb=64)


def test_decoding_that_takes_too_long_is_ended(tokenizer: Tokenizer) -> None:
    async def ended(decoding: ProcessDecoding) -> None:
        with pytest.raises(InputError, match=r"was not decoded within 0\.001 s") as error:
            await read_whole(decoding, tokenizer, media("audio", sound_file("flac", chirp(900.0), 16_000)))
        assert error.value.setting == "TESSERA_DECODE_SECONDS"
        assert error.value.limit == 0.001

    with_decoders(ended, decode_seconds=0.001)


def test_a_reader_that_is_left_ends_its_decoder_at_once(tokenizer: Tokenizer) -> None:
    async def left(decoding: ProcessDecoding) -> None:
        await read_whole(decoding, tokenizer, media("audio", clip("wav")))
        (decoder,) = decoder_processes()
        reader = decoding.reader(tokenizer, media("audio", sound_file("flac", chirp(1800.0), 16_000)), "none")
        taking = asyncio.ensure_future(reader.take(180))
        while not decoder.cpu_times().user > 0.2:
            await asyncio.sleep(0.01)
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
        reader.close()
        decoder.wait(60)
        await read_whole(decoding, tokenizer, media("audio", clip("wav")))

    with_decoders(left)


def test_a_decoder_is_replaced_after_some_clips(tokenizer: Tokenizer) -> None:
    async def several(decoding: ProcessDecoding) -> list[int]:
        seen = []
        for _ in range(5):
            reader = decoding.reader(tokenizer, media("audio", clip("wav")), "none")
            await reader.take(100)
            seen += [process.pid for process in decoder_processes()]
            reader.close()
        return seen

    seen = with_decoders(several, decode_clips=2)
    assert [seen.count(pid) for pid in dict.fromkeys(seen)] == [2, 2, 1]


@pytest.mark.parametrize("said", [b"", b"nonsense", b"\x81\xa4type\xa4Part", b"\x93" * 16_000])
def test_what_is_no_answer_is_none(said: bytes) -> None:
    async def asked() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with subprocess.Popen(["sleep", "60"]) as sleeper, theirs, SharedMemory(8) as memory:
            decoder = Decoder(ours, os.pidfd_open(sleeper.pid))
            if said:
                theirs.send(said)
            else:
                theirs.shutdown(socket.SHUT_RDWR)
            with pytest.raises(Died):
                await decoder.take(Take(1), memory)
            decoder.end()
            assert sleeper.wait(60) == -9

    asyncio.run(asked())


def test_decoders_killed_at_random_cost_no_request_its_codes(bundle_dir: Path, tokenizer: Tokenizer) -> None:
    data = sound_file("flac", chirp(35.0), 16_000)
    expected = tokenizer.encode(data, "audio").codes.tolist()
    over, killed = threading.Event(), 0

    def kill(server: int) -> None:
        nonlocal killed
        random = np.random.default_rng(0)
        while not over.is_set():
            with suppress(psutil.NoSuchProcess):
                if processes := decoder_processes(server):
                    processes[random.integers(len(processes))].kill()
                    killed += 1
            time.sleep(random.uniform(0.05, 0.2))

    with (
        running_server(bundle_dir, cache_bytes=0) as server,
        server.client() as client,
        ThreadPoolExecutor(6) as pool,
    ):
        killing = threading.Thread(target=kill, args=[server.process.pid])
        killing.start()

        def ask(_: int) -> tuple[int, object]:
            answer = client.post("/tokenize", content=data, headers={"content-type": "audio/flac"})
            body = answer.json()
            return answer.status_code, body["data"][0]["codes"] if answer.is_success else body["error"][
                "code"
            ]

        answers = list(pool.map(ask, range(150)))
        over.set()
        killing.join()
        health = client.get("/health/ready").status_code
    right = sum(answer == (200, expected) for answer in answers)
    twice = sum(answer == (422, "media_corrupt") for answer in answers)
    print(f"{killed} decoders killed, {right} of {len(answers)} right, {twice} lost two decoders")
    assert right + twice == len(answers)
    assert right > len(answers) / 2
    assert killed > 10
    assert health == 200


def test_without_the_server_nothing_stays(bundle_dir: Path) -> None:
    with running_server(bundle_dir) as server, server.client() as client:
        answer = client.post("/tokenize", content=clip("wav"), headers={"content-type": "audio/wav"})
        assert answer.status_code == 200
        decoders = decoder_processes(server.process.pid)
        nurseries = {process.parent() for process in decoders}
        assert len(nurseries) == 1
        server.process.kill()
        _, alive = psutil.wait_procs([*decoders, *(each for each in nurseries if each)], timeout=60)
        assert not alive
