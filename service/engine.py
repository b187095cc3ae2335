"""From parsed inputs to encodings: admission, decoding, the device, and what became of each input."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

from service.admission import Admission, Lease
from service.errors import ApiError
from service.inputs import is_light, is_media, open_clip, source_field
from service.jobs import Answer
from service.metrics import Metrics
from service.reader import ClipReader
from service.scheduler import Scheduler
from service.schemas import Input
from service.settings import Settings
from service.trace import Timings
from tessera.codes import Encoding
from tessera.errors import InputError
from tessera.limits import Truncate
from tessera.tokenizer import Tokenizer
from tessera.windows import WindowCodes

_log = logging.getLogger(__name__)


class Engine:
    """One tokenizer behind a queue: everything of the service that is not HTTP."""

    def __init__(self, tokenizer: Tokenizer, settings: Settings, metrics: Metrics) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.metrics = metrics
        self.draining = False
        self.admission = Admission(settings.max_queue_segments, settings.max_request_segments)
        self.scheduler = Scheduler(
            tokenizer.run,
            max_batch_segments=settings.max_batch_segments,
            stall_seconds=settings.stall_seconds,
            warm_up=tokenizer.warm_up,
            on_batch=partial(metrics.batch, max_segments=settings.max_batch_segments),
        )
        self._window = tokenizer.bundle.manifest.time_grid.window_segments
        self._decoders = ThreadPoolExecutor(settings.workers, thread_name_prefix="decode")
        self._open_media = asyncio.Semaphore(settings.max_open_media)

    def start(self) -> None:
        """Start the device; ready once a real batch of each modality ran through its graphs."""
        self.scheduler.start()
        self.metrics.watch(self)

    async def close(self) -> None:
        """Finish what was admitted."""
        self.stop_admission()
        await self.scheduler.close(timeout=self.settings.drain_seconds)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def stop_admission(self) -> None:
        """Refuse every request that was not admitted yet."""
        self.draining = True
        self.admission.closed = True

    @property
    def ready(self) -> bool:
        """A real batch ran, the device lives, the queue accepts and nobody asked the server to stop."""
        return self.scheduler.warm and self.scheduler.alive and self.admission.accepts and not self.draining

    async def tokenize(
        self, items: Sequence[Input | ApiError], truncate: Truncate, timings: Timings
    ) -> list[Encoding | ApiError]:
        """Each input's encoding, or its error, which never touches another input.

        Raises:
            ApiError: the request is not admitted.
        """
        good = sum(not isinstance(item, ApiError) for item in items)
        with self.admission.admit(good * self._window) as lease:
            return await asyncio.gather(
                *(
                    self._tokenize_one(f"inputs[{index}]", item, truncate, lease, timings)
                    for index, item in enumerate(items)
                )
            )

    async def _tokenize_one(
        self, place: str, item: Input | ApiError, truncate: Truncate, lease: Lease, timings: Timings
    ) -> Encoding | ApiError:
        if isinstance(item, ApiError):
            return item.at(place)
        gate: AbstractAsyncContextManager[None] = self._open_media if is_media(item) else nullcontext()
        arrived = time.perf_counter()
        try:
            async with gate:
                timings.queue += time.perf_counter() - arrived
                return await self._encode(item, truncate, lease, timings)
        except InputError as error:
            return ApiError.of_input(error, source_field(item)).at(place)
        except ApiError as error:
            return error.at(place)
        except Exception:
            _log.exception("%s failed", place)
            return ApiError.internal().at(place)

    async def _encode(self, item: Input, truncate: Truncate, lease: Lease, timings: Timings) -> Encoding:
        pool = None if is_light(item) else self._decoders
        reader = ClipReader(pool, partial(open_clip, self.tokenizer, item, truncate))
        try:
            codes = await self._stream(reader, lease, timings)
        finally:
            timings.decode += reader.decode_sec
            timings.queue += reader.wait_sec
            reader.close()
        return self.tokenizer.assemble(reader.clip, codes)

    async def _stream(self, reader: ClipReader, lease: Lease, timings: Timings) -> list[WindowCodes]:
        """Run a clip part by part, decoding the next while one runs, as far as there is room for both."""
        codes: list[WindowCodes] = []
        running: asyncio.Future[Answer] | None = None
        ahead = _Ahead(lease, self._window, self.settings.max_stream_windows)
        try:
            while not reader.ended:
                part = await reader.take(ahead.count)
                lease.count(sum(window.segments for window in part))
                if running is not None:
                    codes += _received(await running, timings)
                running = self.scheduler.submit(part) if part else None
                if running is not None and not (reader.ended or ahead.grow()):
                    codes += _received(await running, timings)
                    running = None
            return codes if running is None else codes + _received(await running, timings)
        finally:
            ahead.release()
            if running is not None:
                running.cancel()


class _Ahead:
    """How many windows of one clip are read at a time: one at first, then twice as many while there is room.

    Room is needed for the part that runs and for the part that is read meanwhile; a short clip takes little.
    """

    def __init__(self, lease: Lease, window: int, most: int) -> None:
        self.count = 1
        self._lease = lease
        self._window = window
        self._most = most
        self._held = 1

    def grow(self) -> bool:
        """Make room for the next part beside the one that runs; false when there is none."""
        for count in (min(2 * self.count, self._most), self.count):
            more = max(0, self.count + count - self._held)
            if self._lease.extend(more * self._window):
                self._held += more
                self.count = count
                return True
        return False

    def release(self) -> None:
        """Give back all but the room that the clip was admitted with."""
        self._lease.shrink((self._held - 1) * self._window)


def _received(answer: Answer, timings: Timings) -> list[WindowCodes]:
    timings.queue += answer.queue_sec
    timings.infer += answer.infer_sec
    return answer.codes
