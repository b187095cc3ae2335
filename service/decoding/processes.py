"""Decoding in processes of their own."""

from __future__ import annotations

import asyncio
import logging
import time

from service.decoding.form import WindowForm
from service.decoding.memory import SharedMemory
from service.decoding.messages import Begin, Part, Refused, Take
from service.decoding.pool import DecoderPool
from service.decoding.process import Decoder, Died
from service.inputs import MediaInput, media_bytes, media_modality
from service.settings import Settings, setting_name
from tessera.clips import ReadyClip
from tessera.errors import InputError
from tessera.limits import Truncate
from tessera.opener import ClipOpener
from tessera.windows import Window

_log = logging.getLogger(__name__)
_LIGHT_BYTES = 2**20
"""Media that is copied sooner than a thread is woken."""

_CPU_SECONDS = 3600
"""Of the processor, for one clip: the last resort, where the server that would kill its decoder hangs itself."""

_ATTEMPTS = 2
"""Whatever kills two decoders is the media; one may have been killed by something else."""


class ProcessDecoding:
    """As `Decoding`."""

    def __init__(self, settings: Settings, turns: int) -> None:
        """`turns` is how many decoders work at a time."""
        self.settings = settings
        self.pool = DecoderPool(
            turns, memory_bytes=settings.decode_memory_mb * 2**20, clips=settings.decode_clips
        )

    @property
    def restarts(self) -> int:
        """As `Decoding`."""
        return self.pool.restarts

    def start(self) -> None:
        """As `Decoding`."""
        self.pool.start()

    async def close(self) -> None:
        """As `Decoding`."""
        await self.pool.close()

    def reader(self, opener: ClipOpener, item: MediaInput, truncate: Truncate) -> ProcessReader:
        """As `Decoding`."""
        return ProcessReader(self.pool, self.settings.decode_seconds, opener, item, truncate)


class ProcessReader:
    """As `Reader`. It has a decoder to itself; one that dies is replaced once, and reads the clip from the start."""

    def __init__(
        self, pool: DecoderPool, seconds: float, opener: ClipOpener, item: MediaInput, truncate: Truncate
    ) -> None:
        """A part may take so many `seconds`."""
        self.decode_sec = 0.0
        self.wait_sec = 0.0
        self.ended = False
        self._pool, self._seconds = pool, seconds
        self._opener, self._item, self._truncate = opener, item, truncate
        self._decoder: Decoder | None = None
        self._busy = False
        self._at = 0  # windows that the decoder has passed
        self._read = 0
        self._last: Part | None = None

    @property
    def clip(self) -> ReadyClip:
        """As `Reader`."""
        part = self._last
        assert part is not None, "a clip is read before it is asked for. This is a bug."
        modality = media_modality(self._item)
        return ReadyClip(
            modality,
            [],
            truncated=part.truncated,
            start_sec=part.start_sec,
            hop_sec=self._opener.hop_sec(modality),
            duration_sec=part.duration_sec,
        )

    async def take(self, count: int) -> list[Window]:
        """As `Reader`."""
        started, decoded = time.perf_counter(), self.decode_sec
        try:
            async with self._pool.turns:
                return await self._taken(count)
        finally:
            self.wait_sec += time.perf_counter() - started - (self.decode_sec - decoded)

    def close(self) -> None:
        """As `Reader`. A decoder that is at work has to be killed: nobody waits for it."""
        decoder, self._decoder = self._decoder, None
        if decoder is None:
            return
        if self._busy:
            decoder.end()
        else:
            self._pool.give_back(decoder)

    async def _taken(self, count: int) -> list[Window]:
        for _ in range(_ATTEMPTS):
            try:
                return await self._asked(count)
            except Died:
                _log.warning("a decoder died at work")
                self._pool.restarts += 1
                self.close()
            except TimeoutError:
                self._pool.restarts += 1
                self.close()
                raise InputError(
                    "media_corrupt",
                    f"a part of the media was not decoded within {self._seconds:g} s",
                    limit=self._seconds,
                    setting=setting_name("decode_seconds"),
                ) from None
        raise InputError("media_corrupt", "the media cannot be decoded")

    async def _asked(self, count: int) -> list[Window]:
        decoder = self._decoder or await self._begun()
        form = self._form()
        with SharedMemory(count * form.bytes) as memory:
            self._busy = True
            async with asyncio.timeout(self._seconds):
                reply = await decoder.take(Take(count, self._read - self._at), memory)
            if isinstance(reply, Refused):
                self._busy = False
                raise InputError(
                    reply.code, reply.message, limit=reply.limit, actual=reply.actual, setting=reply.setting
                )
            if len(reply.segments) > count or any(each > form.window_segments for each in reply.segments):
                raise Died
            self._busy = False
            windows = form.read(memory.mapped(), reply.segments)
        self._last, self.ended = reply, reply.ended
        self.decode_sec += reply.decode_sec
        self._at = self._read = self._read + len(windows)
        return windows

    async def _begun(self) -> Decoder:
        opener, item = self._opener, self._item
        light = len(item.data or "") < _LIGHT_BYTES
        media = _shared(item) if light else await asyncio.to_thread(_shared, item)
        with media:
            decoder = await self._pool.decoder()
            self._decoder, self._at, self._busy = decoder, 0, True
            begin = Begin(
                is_audio=media_modality(item) == "audio",
                spec=opener.media_spec(media_modality(item)).model_dump_json().encode(),
                grid=opener.manifest.time_grid.model_dump_json().encode(),
                limits=opener.limits,
                truncate=self._truncate,
                start_sec=item.start_sec,
                end_sec=item.end_sec,
                cpu_seconds=_CPU_SECONDS,
            )
            decoder.begin(begin, media)
        return decoder

    def _form(self) -> WindowForm:
        opener = self._opener
        return WindowForm.of(opener.media_spec(media_modality(self._item)), opener.manifest.time_grid)


def _shared(item: MediaInput) -> SharedMemory:
    return SharedMemory.of(media_bytes(item))
