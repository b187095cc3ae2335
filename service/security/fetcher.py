"""URL inputs: fetched before they are opened, from hosts of the list alone."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeGuard

from service.errors import ApiError
from service.metrics import Metrics
from service.ready import FeatureArray
from service.request import Item
from service.schemas import Input, TextInput
from service.security.addresses import may_be_reached
from service.security.download import TooLarge, download
from service.security.hosts import Target, read_hosts, read_url
from service.settings import Settings, setting_name

_log = logging.getLogger(__name__)
_MOST_ADDRESSES = 4

Resolve = Callable[..., list[Any]]
"""As `socket.getaddrinfo`."""

Hold = Callable[[int], None]
"""Takes room for so many bytes, or raises."""


class Fetcher:
    """Belongs to one event loop. Nothing a peer says reaches a client but the file itself."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        at_once: int | None = None,
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        """`at_once` is that of the settings, or a share."""
        self._settings = settings
        self._hosts = read_hosts(settings.url_hosts)
        self._metrics = metrics
        self._resolve = resolve
        self._turns = asyncio.Semaphore(at_once or settings.max_open_urls)
        # A resolver that hangs takes one of these, and none that the server needs for anything else.
        self._threads = ThreadPoolExecutor(at_once or settings.max_open_urls, thread_name_prefix="resolve")
        self._trust = ssl.create_default_context() if self._hosts else None

    async def fetched(self, items: Sequence[Item | ApiError], hold: Hold) -> list[Item | ApiError]:
        """`items`, with their content where they had a URL, or with the error of it; `hold` is told what comes.

        Raises:
            ApiError: `too_many_inputs`: more URLs than one request may have.
        """
        asking = [(place, item) for place, item in enumerate(items) if has_url(item)]
        if self._trust is not None:
            self._require_few(len(asking))
        filled = list(items)
        async with asyncio.TaskGroup() as group:
            tasks = [(place, group.create_task(self._filled(item, hold))) for place, item in asking]
        for place, task in tasks:
            filled[place] = task.result()
        return filled

    def close(self) -> None:
        """End."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _require_few(self, count: int) -> None:
        most = self._settings.max_request_urls
        if count > most:
            raise ApiError(
                "too_many_inputs",
                f"{count} inputs are URLs, the limit is {most}",
                param="inputs",
                limit=most,
                actual=count,
                setting=setting_name("max_request_urls"),
            )

    async def _filled(self, item: Input, hold: Hold) -> Input | ApiError:
        try:
            content = await self._fetch(item.url or "", hold)
        except ApiError as error:
            self._metrics.fetched(error.code)
            return error
        self._metrics.fetched("fetched")
        if not isinstance(item, TextInput):
            return item.model_copy(update={"data": content})
        try:
            return item.model_copy(update={"text": content.decode()})
        except UnicodeDecodeError:
            return ApiError("invalid_value", "the text is not UTF-8", param="url")

    async def _fetch(self, url: str, hold: Hold) -> bytes:
        settings = self._settings
        if self._trust is None:
            raise ApiError(
                "url_inputs_disabled", "this server fetches no URLs; send the bytes in `data`", param="url"
            )
        target = read_url(url, self._hosts, settings.max_url_chars)
        try:
            async with self._turns, asyncio.timeout(settings.max_url_seconds):
                addresses = await self._addresses(target)
                return await download(
                    target, addresses, self._trust, most_bytes=settings.max_media_bytes, hold=hold
                )
        except ApiError:
            raise
        except TooLarge:
            raise ApiError(
                "media_too_large",
                f"more than {settings.max_media_bytes} bytes",
                param="url",
                limit=settings.max_media_bytes,
                setting=setting_name("max_media_bytes"),
            ) from None
        except Exception as error:
            # Whatever went wrong there: its words are the peer's, and what is after the host may be a secret.
            _log.info("nothing was fetched from %s: %s", target.host.authority, type(error).__name__)
            raise ApiError("url_not_fetched", "the URL gave no file in time", param="url") from None

    async def _addresses(self, target: Target) -> list[str]:
        """Those of the host, asked for once.

        Raises:
            PermissionError: one of them is not to be reached.
            OSError: there are none.
        """
        host = target.host
        answers = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._resolve(host.name, host.port, type=socket.SOCK_STREAM)
        )
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in answers))
        if not all(may_be_reached(address, private=host.private) for address in addresses):
            _log.warning("the host %s has an address that is not to be reached", host.authority)
            raise PermissionError
        return addresses[:_MOST_ADDRESSES]


def has_url(item: Item | ApiError) -> TypeGuard[Input]:
    """Whether its content is elsewhere."""
    return not isinstance(item, ApiError | FeatureArray) and item.url is not None
