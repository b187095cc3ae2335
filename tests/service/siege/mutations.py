"""`python -m tests.service.siege.mutations --cases 5000 --seed 0`: damaged media of every form, to a real server.

Every file is answered, with codes or with the catalogue's words for what is wrong with it; the server lives on.
Decoders that die of a file are counted, and with `--keep` such files are written to a folder. Exits with 1 where one
was answered wrongly, or not at all, or where more memory was taken than the limits allow.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from service.errors import ErrorCode
from tests.media_files import PICTURE, SOUND, clip, picture_file
from tests.service.siege.damage import DAMAGES
from tests.service.siege.requests import Request
from tests.service.siege.server import Besieged, Scale, besieged
from tests.service.siege.tally import Tally
from tests.service.siege.wire import Torn, post, talk

WORDS: frozenset[ErrorCode] = frozenset(
    {
        "empty_input",
        "invalid_value",
        "media_corrupt",
        "media_too_large",
        "media_too_long",
        "missing_track",
        "unsupported_media",
    }
)
"""What may be said of a file; of an excerpt that begins behind its end, it is that the value is wrong."""

_TOGETHER = 12


@dataclass
class Mutations:
    """What became of damaged files."""

    tally: Tally = field(default_factory=Tally)
    deadly: list[tuple[str, bytes]] = field(default_factory=list)
    slow: list[tuple[str, bytes]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "cases": self.tally.requests,
            "totals": self.tally.totals(),
            "violations": self.tally.violations,
            "decoders_died_of": [name for name, _ in self.deadly],
            "took_too_long": [name for name, _ in self.slow],
            **self.facts,
        }


@dataclass(frozen=True)
class Case:
    """One damaged file."""

    name: str
    data: bytes
    request: Request


def cases(seed: int) -> Iterator[Case]:
    """Without end."""
    draw = random.Random(seed)
    files = {form: clip(form) for form in (*SOUND, *PICTURE, "fragments")}
    foreign = {
        "avi": picture_file("mpeg4", "avi", "yuv420p", count=5),
        "mpegts": picture_file("mpeg4", "mpegts", "yuv420p", count=5),
        "mjpeg": picture_file("mjpeg", "mov", "yuvj420p", count=5),
    }
    everything = files | foreign
    number = 0
    while True:
        form, damage = draw.choice(list(everything)), draw.choice(DAMAGES)
        data = damage(everything[form], draw.choice(list(everything.values())), draw)
        kind = draw.choice(["audio", "audio" if form in SOUND else "video"])
        query = draw.choice(["", "", "?start_sec=1&end_sec=2.5", "?truncate=start", "?truncate=end"])
        yield Case(
            f"{number} {form} {damage.__name__} as {kind}{query}",
            data,
            Request(
                f"{form} {damage.__name__}",
                [post(f"/tokenize{query}", f"{kind}/x", data)],
                right=lambda answer: answer.document["data"][0]["segments"]["count"] > 0,
                refusals=WORDS,
            ),
        )
        number += 1


async def besiege(server: Besieged, drawn: Iterator[Case], found: Mutations) -> None:
    """Send some at a time; where decoders died meanwhile, each of these again and alone."""
    while together := list(islice(drawn, _TOGETHER)):
        before = server.deaths()
        await asyncio.gather(*(_send(server, case, found) for case in together))
        if server.deaths() > before:
            for case in together:
                before = server.deaths()
                await _send(server, case, Mutations())
                if server.deaths() > before:
                    found.deadly.append((case.name, case.data))


async def _send(server: Besieged, case: Case, found: Mutations) -> None:
    try:
        answers = await talk(server.url, case.request.steps)
    except (OSError, Torn) as error:
        found.tally.fail(case.request, f"{case.name}: {type(error).__name__}: {error}")
        return
    known = len(found.tally.violations)
    found.tally.judge(case.request, answers)
    found.tally.violations[known:] = [f"{case.name}: {fault}" for fault in found.tally.violations[known:]]
    if any(b"was not decoded within" in answer.body for answer in answers):
        found.slow.append((case.name, case.data))


def run(bundle: Path | None, count: int, seed: int, frontends: int = 1) -> Mutations:
    """So many cases."""
    found = Mutations()
    with besieged(bundle, frontends) as server:
        scale, began = Scale(server, frontends), time.monotonic()
        born = {process.pid for process in server.process.children()}
        asyncio.run(besiege(server, islice(cases(seed), count), found))
        found.facts |= {
            "seconds": round(time.monotonic() - began, 1),
            "decoder_deaths": server.deaths(),
            "memory_mb": scale.document(),
        }
        found.tally.violations += scale.excess()
        if frontends > 1 and born - {process.pid for process in server.process.children()}:
            found.tally.violations.append("a front end died")
    found.tally.violations += [f"log: {line.strip()}" for line in server.faults()]
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.siege.mutations", description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frontends", type=int, default=1)
    parser.add_argument("--bundle", type=Path, help="folder of a bundle; without one, the demo bundle")
    parser.add_argument("--keep", type=Path, help="folder for files that kill a decoder or take too long")
    asked = parser.parse_args()
    found = run(asked.bundle, asked.cases, asked.seed, asked.frontends)
    print(orjson.dumps(found.document(), option=orjson.OPT_INDENT_2).decode())
    if asked.keep is not None:
        asked.keep.mkdir(parents=True, exist_ok=True)
        for name, data in found.deadly + found.slow:
            (asked.keep / name.replace(" ", "-").replace("/", "-")).write_bytes(data)
    sys.exit(bool(found.tally.violations))


if __name__ == "__main__":
    main()
