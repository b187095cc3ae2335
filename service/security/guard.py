"""The guard at the door, as plain ASGI: in comes who has a key that is good for the route, and within its rate."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ApiError
from service.metrics import Metrics
from service.security.key_ring import KeyRing
from service.security.keys import Key
from service.security.rates import Rates
from service.security.scopes import OPEN, scopes_of
from service.trace import Trace


class Guard:
    """Refuses all but what is open and what a key opens. It reads no body: that of a stranger is not looked at."""

    def __init__(self, app: ASGIApp, keys: KeyRing, rates: Rates, metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._rates = rates
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope.get("method"), scope["path"]) in OPEN:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":  # nothing else is served
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace = Trace.of(scope)
        key = self._key(trace.headers)
        trace.key = key.name
        try:
            self._require_scope(key, scope)
            self._rates.take(key)
        except ApiError as error:
            self._metrics.asked(key.name, error.code)
            raise
        self._metrics.asked(key.name, "admitted")
        try:
            await self._app(scope, receive, send)
        finally:
            self._rates.spend(key, trace.timings.segments)

    def _key(self, headers: Mapping[bytes, bytes]) -> Key:
        secret = _secret(headers)
        key = None if secret is None else self._keys.find(secret)
        if key is None:
            raise ApiError(
                "unauthorized",
                "send a key of this server, as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                headers={"www-authenticate": "Bearer"},
            )
        return key

    def _require_scope(self, key: Key, scope: Scope) -> None:
        missing = scopes_of(scope["method"], scope["path"]) - key.scopes
        if missing:
            raise ApiError("forbidden", f"the key lacks the scope {' and '.join(sorted(missing))}")


def _secret(headers: Mapping[bytes, bytes]) -> bytes | None:
    """What was sent as a key. `X-API-Key` comes first: the other header may be a gateway's."""
    if (own := headers.get(b"x-api-key")) is not None:
        return own
    scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" else None
