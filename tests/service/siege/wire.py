"""HTTP as bytes over real sockets: requests that are late, torn or never end, and every answer that came back."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import orjson

from service.contract import ErrorEnvelope
from service.errors import CATALOGUE, ErrorCode

PATIENCE_SEC = 300.0
"""Until an answer that does not come counts as none: more than any limit of the servers here."""

_PIECE = 65_536


class Torn(Exception):
    """Bytes of a server that are no whole answers."""


class Move(Enum):
    """What a client does beside sending."""

    END = "end"  # it sends no more, and reads on
    LEAVE = "leave"  # it hangs up
    RESET = "reset"  # it is gone, and its machine says so
    TASTE = "taste"  # it reads the beginning of the answer


Step = bytes | float | Move
"""What a client sends, how long it waits, or what else it does."""


@dataclass(frozen=True)
class Answer:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @cached_property
    def document(self) -> Any:
        """The body, which is JSON."""
        return orjson.loads(self.body)

    @property
    def code(self) -> ErrorCode:
        """That of the catalogue.

        Raises:
            ValueError: the answer is not the one envelope, or has another status than its code.
        """
        error = ErrorEnvelope.model_validate(self.document).error
        if self.status != CATALOGUE[error.code].status or set(self.document) != {"error"}:
            raise ValueError(f"{error.code} with status {self.status}")
        return error.code


def head(method: str, target: str, *fields: str) -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "host: x", *fields, "", ""]).encode()


def post(target: str, kind: str, body: bytes, *fields: str, close: bool = True) -> bytes:
    """A whole request, the only one of its connection unless it is not to `close`."""
    ending = ["connection: close"] if close else []
    return (
        head("POST", target, f"content-type: {kind}", f"content-length: {len(body)}", *ending, *fields) + body
    )


def answers_in(data: bytes) -> list[Answer]:
    """All that a server said on one connection.

    Raises:
        Torn: it ended in the middle of an answer, or said something else.
    """
    found = []
    while data:
        top, end, data = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        if not end or not first.startswith("HTTP/1.1 "):
            raise Torn(first[:100])
        status = int(first.split(" ")[1])
        if status < 200:
            continue
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "-1"))
        if not 0 <= length <= len(data):
            raise Torn(f"{length} bytes were announced, {len(data)} came")
        found.append(Answer(status, headers, data[:length]))
        data = data[length:]
    return found


async def talk(url: str, steps: Sequence[Step]) -> list[Answer]:
    """Do `steps` on a connection of its own, then read until the server hangs up.

    Raises:
        OSError: there is no server.
        Torn: what came is no whole answers.
        TimeoutError: the server neither answers nor hangs up.
    """
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=_PIECE)
    heard, tasted = bytearray(), asyncio.Event()

    async def listen() -> None:
        # Reset: it hung up while something was on its way to it.
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE):
                heard.extend(piece)
                tasted.set()
        tasted.set()

    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(PATIENCE_SEC):
            # A server may answer and hang up before all was sent.
            with suppress(ConnectionError):
                for step in steps:
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    elif isinstance(step, float):
                        await asyncio.sleep(step)
                    elif step is Move.END:
                        writer.write_eof()
                    elif step is Move.TASTE:
                        await tasted.wait()
                    else:
                        if step is Move.RESET:
                            _reset_on_close(writer)
                        return []
            await listening
    finally:
        listening.cancel()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return answers_in(bytes(heard))


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    link = writer.get_extra_info("socket")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
