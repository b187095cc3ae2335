"""`python -m tests.service.siege.chaos --requests 10000 --seed 0`: everything goes wrong, and all are answered.

A real server, alone and with two front ends; real clients that are good, bad, too large, slow, or gone; decoders that
are killed, a Redis that is killed and frozen, SIGTERM under load, a device that dies. Prints what became of every
request, writes it with `--out`, and exits with 1 if a request had no answer, two, or a wrong one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from service.errors import ErrorCode
from service.settings import Settings
from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, sound_file
from tests.service.mortal_server import DEADLY_WORDS
from tests.service.siege.redis import running_redis
from tests.service.siege.requests import (
    Request,
    bad_requests,
    good_requests,
    hurried,
    leaving_clients,
    oversized_requests,
    pipelined,
    slow_clients,
)
from tests.service.siege.server import Besieged, Killer, Scale, besieged, until_metric
from tests.service.siege.tally import Tally
from tests.service.siege.wire import Torn, post, talk

SHARES = {"mixed": 0.5, "decoders": 0.15, "loris": 0.15, "redis": 0.1, "sigterm": 0.05, "device": 0.05}
"""Of the requests that go to each hour of the siege."""

_IN_FLIGHT = 32
_HALVES = 2000


@dataclass
class Hour:
    """One part of the siege."""

    name: str
    frontends: int
    tally: Tally = field(default_factory=Tally)
    facts: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        counts = [[*key, count] for key, count in sorted(self.tally.counts.items())]
        return {
            "hour": self.name,
            "frontends": self.frontends,
            "requests": self.tally.requests,
            "totals": self.tally.totals(),
            "violations": self.tally.violations,
            **self.facts,
            "counts": counts,
        }


class Siege:
    """The hours of one siege of servers with so many front ends."""

    def __init__(self, bundle: Path | None, requests: int, seed: int, frontends: int) -> None:
        self._bundle, self._frontends = bundle, frontends
        self._draw = random.Random(seed)
        self._good = good_requests(Tokenizer.load(bundle))
        self._media = [request for request in self._good if "as it is" in request.kind]
        self._bad = bad_requests()
        self._counts = {name: max(1, round(share * requests)) for name, share in SHARES.items()}
        if "redis_url" not in Settings.model_fields:
            self._counts["mixed"] += self._counts.pop("redis")

    def hours(self) -> Iterator[Hour]:
        """One after the other."""
        yield from self._with_one_server()
        if "redis" in self._counts:
            yield self._with_redis()
        yield self._terminated()
        yield self._lost()

    def _with_one_server(self) -> Iterator[Hour]:
        hours = [Hour(name, self._frontends) for name in ("mixed", "decoders", "loris")]
        with besieged(self._bundle, self._frontends) as server:
            scale = Scale(server, self._frontends)
            for hour, besiege in zip(hours, (self._mixed, self._decoders, self._loris), strict=True):
                began = time.monotonic()
                asyncio.run(besiege(server, hour))
                hour.facts["seconds"] = round(time.monotonic() - began, 1)
            hours[-1].facts["memory_mb"] = scale.document()
            hours[-1].tally.violations += scale.excess()
        _look_at_log(hours[-1], server)
        yield from hours

    async def _mixed(self, server: Besieged, hour: Hour) -> None:
        await self._send(server, hour, islice(self._mixture(), self._counts["mixed"]))

    async def _decoders(self, server: Besieged, hour: Hour) -> None:
        requests = [self._draw.choice(self._media) for _ in range(self._counts["decoders"])]
        killer = Killer(server, self._draw)
        async with killer.at_work():
            # Whatever kills two decoders is taken for the media.
            await self._send(server, hour, requests, also={"media_corrupt"})
        hour.facts["decoders_killed"] = killer.killed

    async def _loris(self, server: Besieged, hour: Hour) -> None:
        requests = [self._draw.choice(self._good) for _ in range(self._counts["loris"])]
        async with self._half_sent(server) as opened:
            while opened[0] < _HALVES:
                await asyncio.sleep(0.05)
            await self._send(server, hour, requests)
        hour.facts["half_sent"] = opened[0]

    @asynccontextmanager
    async def _half_sent(self, server: Besieged) -> AsyncIterator[list[int]]:
        """So many clients that never end their requests, each replaced by another when it is hung up on."""
        opened = [0]
        body = post("/tokenize", "text/plain", b"a dog barks")[:-3]

        async def half() -> None:
            while True:
                # Faster than a client sends after it connected, nobody could be told from them.
                await asyncio.sleep(self._draw.uniform(0.0, 3.0))
                opened[0] += 1
                cut = self._draw.choice([0, 20, len(body)])
                with suppress(OSError, Torn):
                    await talk(server.url, [body[:cut]])

        tasks = [asyncio.create_task(half()) for _ in range(_HALVES)]
        try:
            yield opened
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _with_redis(self) -> Hour:
        hour = Hour("redis", self._frontends)
        requests = [self._draw.choice(self._good) for _ in range(self._counts["redis"])]

        async def besiege(server: Besieged) -> None:
            async with redis.harmed(self._draw):
                await self._send(server, hour, requests)

        with running_redis() as redis:
            # So little in memory that most is asked of Redis.
            shared = {"redis_url": redis.url, "cache_bytes": 2**16, "redis_retry_seconds": 0.2}
            with besieged(self._bundle, self._frontends, **shared) as server:
                asyncio.run(besiege(server))
            hour.facts |= redis.harm
        _look_at_log(hour, server)
        return hour

    def _terminated(self) -> Hour:
        """Long requests that have begun are answered; of others each is answered, refused, or turned away."""
        hour = Hour("sigterm", self._frontends)
        left = self._counts["sigterm"]
        data = sound_file("flac", chirp(120.0), 16_000)
        codes = Tokenizer.load(self._bundle).encode(data, "audio").codes.tolist()
        long = Request(
            "long, before SIGTERM",
            [post("/tokenize", "audio/flac", data)],
            right=lambda answer: bool(answer.document["data"][0]["codes"] == codes),
        )
        while left > 0:
            storm = [self._draw.choice(self._good) for _ in range(min(left, 200))]
            left -= len(storm)
            with besieged(self._bundle, self._frontends, drain_seconds=120) as server:
                asyncio.run(self._terminate(server, hour, long, storm))
                self._expect_status(hour, server, 0)
            _look_at_log(hour, server)
        return hour

    async def _terminate(self, server: Besieged, hour: Hour, long: Request, storm: list[Request]) -> None:
        size = sum(len(step) for step in long.steps if isinstance(step, bytes))
        begun = [asyncio.create_task(_carry_out(server, long, hour.tally)) for _ in range(8)]
        # Bodies are held from the first byte to the answer.
        await until_metric(server, "tessera_held_bytes", 0.9 * 6 * size)
        at, signalled = self._draw.randrange(len(storm)), asyncio.Event()

        def with_signal() -> Iterator[Request]:
            for number, request in enumerate(storm):
                if number == at:
                    signalled.set()
                    server.running.process.send_signal(signal.SIGTERM)
                yield request

        await self._send(server, hour, with_signal(), also={"shutting_down"}, gone=signalled.is_set)
        await asyncio.gather(*begun)

    def _lost(self) -> Hour:
        """Whoever waits for a device that dies is told so."""
        hour = Hour("device", self._frontends)
        left = self._counts["device"]
        while left > 0:
            waiting = [self._text(self._draw.randint(1, 6)) for _ in range(min(left, 50))]
            left -= len(waiting)
            with besieged(
                self._bundle, self._frontends, module="tests.service.mortal_server", streams=1
            ) as server:
                asyncio.run(self._lose(server, hour, waiting))
                self._expect_status(hour, server, 2)
        return hour

    async def _lose(self, server: Besieged, hour: Hour, waiting: list[Request]) -> None:
        deadly = self._text(DEADLY_WORDS)
        begun = [asyncio.create_task(_carry_out(server, deadly, hour.tally))]
        await until_metric(server, "tessera_queue_items", 1)
        begun += [asyncio.create_task(_carry_out(server, each, hour.tally)) for each in waiting]
        await until_metric(server, "tessera_inflight", len(begun) + 1)
        server.running.process.send_signal(signal.SIGUSR1)
        await asyncio.gather(*begun)

    def _text(self, words: int) -> Request:
        text = " ".join(["bell"] * words).encode()
        lost: frozenset[ErrorCode] = frozenset({"device_lost"})
        return Request("waits for a device that dies", [post("/tokenize", "text/plain", text)], refusals=lost)

    def _expect_status(self, hour: Hour, server: Besieged, status: int) -> None:
        ended = server.running.process.wait(300)
        if ended != status:
            hour.tally.violations.append(f"the server ended with status {ended}, not {status}")

    def _mixture(self) -> Iterator[Request]:
        """Without end: half of them good."""
        draw = self._draw
        while True:
            good = draw.choice(self._good)
            if draw.random() < 0.5:
                yield good
                continue
            match draw.randrange(16):
                case 0:
                    yield from oversized_requests(draw)
                case 1 | 2:
                    yield from leaving_clients(good, draw)
                case 3 | 4:
                    yield from slow_clients(good, draw)
                case 5 | 6:
                    yield hurried(draw.choice([*self._good, *self._bad[:20]]), draw)
                case 7:
                    yield pipelined(draw.randint(2, 8))
                case _:
                    yield draw.choice(self._bad)

    async def _send(
        self,
        server: Besieged,
        hour: Hour,
        requests: Iterable[Request],
        *,
        also: Collection[ErrorCode] = (),
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """All of them, some at a time; once the server is `gone`, a client may be turned away."""
        waiting = iter(requests)

        async def client() -> None:
            for request in waiting:
                await _carry_out(server, request, hour.tally, also=also, gone=gone)

        await asyncio.gather(*(client() for _ in range(_IN_FLIGHT)))


async def _carry_out(
    server: Besieged,
    request: Request,
    tally: Tally,
    *,
    also: Collection[ErrorCode] = (),
    gone: Callable[[], bool] = lambda: False,
) -> None:
    began_before = not gone()
    try:
        answers = await talk(server.url, request.steps)
    except (OSError, Torn) as error:  # of which a TimeoutError is one
        if not (isinstance(error, ConnectionError) and gone()):
            tally.fail(request, f"{type(error).__name__}: {error}")
            return
        answers = []
    if gone() and not answers and request.answers:
        # Connected, and not taken by the server yet; or come too late.
        request = replace(request, kind="cut off at SIGTERM" if began_before else "turned away after SIGTERM")
    tally.judge(request, answers, also=also, unanswered=gone())


def _look_at_log(hour: Hour, server: Besieged) -> None:
    hour.facts["log_lines"] = len(server.log)
    hour.tally.violations += [f"log: {line.strip()}" for line in server.faults()]


def run(bundle: Path | None, requests: int, seed: int, frontends: Collection[int] = (1, 2)) -> list[Hour]:
    """All hours of the siege, of servers with so many front ends each."""
    each = requests // len(frontends)
    return [hour for count in frontends for hour in Siege(bundle, each, seed, count).hours()]


def table(hours: list[Hour]) -> Table:
    """What became of them."""
    names = ("front ends", "hour", "requests", "right", "refused", "no answer", "wrong")
    shown = Table(*names, title="Siege")
    for hour in hours:
        totals = hour.tally.totals()
        refused = {said: n for said, n in totals.items() if said not in ("right", "no answer", "wrong")}
        row = (hour.frontends, hour.name, hour.tally.requests, totals["right"], sum(refused.values()))
        shown.add_row(*map(str, (*row, totals["no answer"], len(hour.tally.violations))))
    return shown


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.siege.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path, help="folder of a bundle; without one, the demo bundle")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    asked = parser.parse_args()
    hours = run(asked.bundle, asked.requests, asked.seed)
    if asked.out is not None:
        asked.out.write_bytes(orjson.dumps([hour.document() for hour in hours], option=orjson.OPT_INDENT_2))
    console = Console()
    console.print(table(hours))
    for hour in hours:
        console.print(f"{hour.name}, {hour.frontends}:", {**hour.facts, **hour.tally.totals()})
    violations = [violation for hour in hours for violation in hour.tally.violations]
    for violation in violations[:50]:
        print(violation, file=sys.stderr)
    raise SystemExit(bool(violations))


if __name__ == "__main__":
    main()
