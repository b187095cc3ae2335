"""Fetching one file over https, from an address that was chosen before: no redirect, no proxy, no inflating."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

import httpcore

from service.security.hosts import Target

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 10.0
_CRUMBS = 1000
"""Pieces of a body that may be as small as they like; from there on a piece has `_PIECE_BYTES` on average."""
_PIECE_BYTES = 64

Socket = httpcore.SOCKET_OPTION


class NotFetched(Exception):
    """The peer did not give a file."""


class TooLarge(Exception):
    """The file has more bytes than are taken."""


async def download(
    target: Target,
    addresses: Sequence[str],
    trust: ssl.SSLContext,
    *,
    most_bytes: int,
    hold: Callable[[int], None],
) -> bytes:
    """The file; `hold` is told how many bytes come, before they are kept. The certificate has to be the host's.

    Raises:
        NotFetched: another answer than 200, or one in crumbs.
        TooLarge: it has more than `most_bytes`.
        Exception: whatever `hold`, the network and its libraries raise.
    """
    host = target.host
    url = httpcore.URL(scheme=b"https", host=host.name.encode(), port=host.port, target=target.path.encode())
    pool = httpcore.AsyncConnectionPool(
        ssl_context=trust, network_backend=_Pinned(addresses), max_connections=1, max_keepalive_connections=0
    )
    headers: dict[bytes | str, bytes | str] = {
        "Host": host.authority,
        "User-Agent": f"tessera/{version('tessera')}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }
    timeout = {
        "connect": _CONNECT_SECONDS,
        "read": _READ_SECONDS,
        "write": _READ_SECONDS,
        "pool": _READ_SECONDS,
    }
    async with pool, pool.stream("GET", url, headers=headers, extensions={"timeout": timeout}) as response:
        _check(response, most_bytes)
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_stream():
            size += len(part)
            if size > most_bytes:
                raise TooLarge
            if len(parts) >= _CRUMBS and size < _PIECE_BYTES * len(parts):
                raise NotFetched
            hold(len(part))
            parts.append(part)
    return b"".join(parts)


def _check(response: httpcore.Response, most_bytes: int) -> None:
    headers = {name.lower(): value for name, value in response.headers}
    if response.status != 200 or headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise NotFetched
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > most_bytes:
        raise TooLarge


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to one of the addresses, whatever the name would resolve to by now."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Socket] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As httpcore's."""
        failure: Exception = NotFetched()
        for address in self._addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
