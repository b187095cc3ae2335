"""A small real https server on this machine that does what a test says, however ill."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trustme

from tests.service.small_server import talking

Talk = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
"""From the path of a request: writes what it likes."""


@dataclass
class Peer:
    """`heads` are those of the requests that it was asked."""

    port: int
    trust: ssl.SSLContext
    heads: list[bytes] = field(default_factory=list)


@contextmanager
def peer(talk: Talk, authority: trustme.CA, *names: str) -> Iterator[Peer]:
    """In a thread of this process; its certificate is for `names`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    running = Peer(0, trust)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            running.heads.append(head)
            await talk(head.split()[1].decode(), writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    with talking(answer, context) as running.port:
        yield running
