"""The address of a server and the connections to it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import httpx

_KEY_VARIABLE = "TESSERA_API_KEY"
_IDLE_SECONDS = 4.0
"""A connection that is idle for longer is closed here: servers close theirs after 5 s, maybe as it is used again."""


def checked_address(url: str) -> str:
    """`url` without a slash at its end.

    Raises:
        ValueError: it is no address of a server.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"'{url}' is not the address of a server, such as http://localhost:8000")
    return url.rstrip("/")


def sent_headers(headers: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """The headers of every request; headers that were given win over the key."""
    key = os.environ.get(_KEY_VARIABLE) if api_key is None else api_key
    return ({"Authorization": f"Bearer {key}"} if key else {}) | dict(headers or {})


def connections() -> httpx.Limits:
    """As many as are asked for at once."""
    return httpx.Limits(max_keepalive_connections=None, max_connections=None, keepalive_expiry=_IDLE_SECONDS)
