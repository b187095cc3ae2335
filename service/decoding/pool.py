"""The decoders of a server: kept for some clips, killed when they fail, replaced at once."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from service.decoding.confinement import missing
from service.decoding.process import Decoder, Died, Nursery
from service.errors import ApiError

_log = logging.getLogger(__name__)


class DecoderPool:
    """Belongs to one event loop. `turns` is how many decoders work at a time."""

    def __init__(self, turns: int, *, memory_bytes: int, clips: int) -> None:
        """A decoder may take `memory_bytes` beyond what it begins with, and reads so many `clips`."""
        self.turns = asyncio.Semaphore(turns)
        self.restarts = 0
        self._most_idle = turns
        self._memory_bytes = memory_bytes
        self._clips = clips
        self._idle: list[Decoder] = []
        self._nursery: Nursery | None = None
        self._starting = asyncio.Lock()
        self._warming: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Have one ready before it is asked for."""
        for lack in missing():
            _log.warning("decoders: %s", lack)
        self._warming = asyncio.create_task(self._warm_up())

    async def _warm_up(self) -> None:
        with suppress(ApiError):  # whoever asks first, is told
            self._idle.append(await self._born())

    async def decoder(self) -> Decoder:
        """One that does nothing yet; give it back, or end it.

        Raises:
            ApiError: `internal_error`: no process can be started.
        """
        if self._warming is not None:
            await asyncio.shield(self._warming)
        while self._idle:
            decoder = self._idle.pop()
            if decoder.alive:
                return decoder
            decoder.end()
        birth = asyncio.ensure_future(self._born())
        try:
            return await asyncio.shield(birth)
        except asyncio.CancelledError:
            birth.add_done_callback(self._adopt)
            raise

    async def _born(self) -> Decoder:
        for _ in range(2):
            try:
                return await (await self._living_nursery()).decoder()
            except Died:
                await self._bury_nursery()
        _log.error("no decoder can be started")
        raise ApiError.internal()

    def _adopt(self, birth: asyncio.Future[Decoder]) -> None:
        """Keep one that came when nobody waited for it any more."""
        if not birth.cancelled() and birth.exception() is None:
            self._idle.append(birth.result())

    def give_back(self, decoder: Decoder) -> None:
        """Keep one that is done with its clip, unless it had enough of them or there are enough without it."""
        if decoder.clips < self._clips and len(self._idle) < self._most_idle:
            self._idle.append(decoder)
        else:
            decoder.end()

    async def close(self) -> None:
        """End those that are idle; the others end with their clip."""
        if self._warming is not None:
            self._warming.cancel()
        for decoder in self._idle:
            decoder.end()
        self._idle.clear()
        await self._bury_nursery()

    async def _living_nursery(self) -> Nursery:
        async with self._starting:
            if self._nursery is None:
                self._nursery = await Nursery.started(self._memory_bytes)
            return self._nursery

    async def _bury_nursery(self) -> None:
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            await nursery.close()
