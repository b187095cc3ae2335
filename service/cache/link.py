"""The way to Redis: what several requests want at the same moment travels together, and nobody waits in vain twice."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.cache.breaker import Breaker
from service.cache.counts import CacheCounts
from service.errors import StartError
from service.settings import Settings, setting_name

_log = logging.getLogger(__name__)

_TOGETHER = 256
"""Commands in one pipeline, at most."""

_WAITING = 4096
"""Commands that wait for the pipelines before them, at most."""

Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A command, and who waits for its answer, if anybody."""

    command: Command
    future: asyncio.Future[Any] | None = None

    def answer(self, value: Any) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(value)


class Link:
    """One pipeline at a time: while it is under way, the next one collects. None is answered where Redis is of no help.

    A pipeline that fails, fails for all who wait, so nobody waits longer than one takes. Failures in a row open the
    breaker; from then on nobody waits at all, until a ping that no request waits for was answered.
    """

    def __init__(
        self,
        client: Redis,
        breaker: Breaker,
        counts: CacheCounts,
        *,
        seconds: float,
        retry_seconds: float,
    ) -> None:
        """A pipeline may take `seconds`; after `retry_seconds` a breaker that is open is tried."""
        self.breaker = breaker
        self._client = client
        self._counts = counts
        self._seconds = seconds
        self._retry_seconds = retry_seconds
        self._waiting: deque[_Sent] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._healer: asyncio.Task[None] | None = None

    def ask(self, *command: Any) -> asyncio.Future[Any]:
        """The answer to `command`; None without one."""
        sent = _Sent(command, asyncio.get_running_loop().create_future())
        if not self._send(sent):
            sent.answer(None)
        assert sent.future is not None
        return sent.future

    def tell(self, *command: Any) -> None:
        """Send `command`; nobody waits for an answer."""
        self._send(_Sent(command))

    async def close(self) -> None:
        """Send what waits, as long as it may take, and hang up."""
        if self._healer is not None:
            self._healer.cancel()
        if self._sender is not None:
            await self._sender
        await self._client.aclose()

    def _send(self, sent: _Sent) -> bool:
        if not self.breaker.closed:
            return False
        if len(self._waiting) >= _WAITING:
            self._counts.error("dropped")
            return False
        self._waiting.append(sent)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return True

    async def _send_all(self) -> None:
        while self._waiting:
            together = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
            answers = await self._answers([sent.command for sent in together])
            if answers is None:
                together += self._waiting
                self._waiting.clear()
                answers = [None] * len(together)
            for sent, answer in zip(together, answers, strict=True):
                sent.answer(self._good(answer))
        self._sender = None

    def _good(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            self._counts.error("refused")
            return None
        return answer

    async def _answers(self, commands: list[Command]) -> list[Any] | None:
        """Those of one pipeline; None if it failed, which the breaker and the metrics are told."""
        try:
            async with asyncio.timeout(self._seconds):
                pipeline = self._client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # whatever it is, it must not reach a request
            late = isinstance(error, TimeoutError | redis.exceptions.TimeoutError)
            self._counts.error("timeout" if late else "connection")
            self.breaker.failed()
            if not self.breaker.closed and self._healer is None:
                # The error may hold the address; its name says enough.
                _log.warning("Redis is left out until it answers again: %s", type(error).__name__)
                self._healer = asyncio.create_task(self._heal())
            return None
        self.breaker.succeeded()
        return answers

    async def _heal(self) -> None:
        while not self.breaker.closed:
            await asyncio.sleep(self._retry_seconds)
            self.breaker.try_again()
            await self._answers([("PING",)])
        _log.info("Redis answers again")
        self._healer = None


def link_to_redis(settings: Settings, counts: CacheCounts) -> Link:
    """The way to the Redis of the settings; it is not connected yet.

    Raises:
        StartError: the URL cannot be taken.
    """
    assert settings.redis_url is not None, "only where there is a Redis. This is a bug."
    connect, answer = settings.redis_connect_timeout_ms / 1000, settings.redis_timeout_ms / 1000
    try:
        client = Redis.from_url(
            settings.redis_url.get_secret_value(),
            # Of two, as a ping may begin while a connection is being given up.
            max_connections=2,
            socket_connect_timeout=connect,
            socket_timeout=answer,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
    except (ValueError, TypeError, redis.exceptions.RedisError):
        raise StartError(f"{setting_name('redis_url')} cannot be taken: it is no URL of a Redis") from None
    return Link(
        client,
        Breaker(settings.redis_failures),
        counts,
        seconds=connect + answer,
        retry_seconds=settings.redis_retry_seconds,
    )
