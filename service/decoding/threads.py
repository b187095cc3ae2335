"""Decoding in threads of the server, where the system has no way to confine a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial

from service.inputs import MediaInput, open_clip
from tessera.clips import Clip
from tessera.limits import Truncate
from tessera.opener import ClipOpener
from tessera.windows import Window


class ThreadDecoding:
    """As `Decoding`."""

    restarts = 0

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def start(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        """End the threads, each after the part that it decodes."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def reader(self, opener: ClipOpener, item: MediaInput, truncate: Truncate) -> ThreadReader:
        """As `Decoding`."""
        return ThreadReader(self._pool, partial(open_clip, opener, item, truncate))


class ThreadReader:
    """As `Reader`. Its jobs run one after the other, and closing waits for the one that runs."""

    def __init__(self, pool: Executor, open_clip: Callable[[], Clip]) -> None:
        self.decode_sec = 0.0
        self.wait_sec = 0.0
        self.ended = False
        self._pool = pool
        self._open = open_clip
        self._clip: Clip | None = None
        self._windows: Iterator[Window] = iter(())
        self._job: Future[list[Window]] | None = None
        self._closed = False

    @property
    def clip(self) -> Clip:
        """The clip, once a part of it was read."""
        assert self._clip is not None, "a clip is read before it is asked for. This is a bug."
        return self._clip

    async def take(self, count: int) -> list[Window]:
        """The next `count` windows; fewer at the end of the clip."""
        started, decoded = time.perf_counter(), self.decode_sec
        self._job = self._pool.submit(self._read, count)
        windows = await asyncio.wrap_future(self._job)
        self.wait_sec += time.perf_counter() - started - (self.decode_sec - decoded)
        return windows

    def close(self) -> None:
        """Free the decoder: now, or when the job that is running has stopped, at the next window."""
        self._closed = True
        if self._job is None:
            self._free()
        else:
            self._job.add_done_callback(lambda _: self._free())

    def _read(self, count: int) -> list[Window]:
        started = time.perf_counter()
        if self._clip is None:
            self._clip = self._open()
            self._windows = iter(self._clip)
        windows: list[Window] = []
        while len(windows) < count and not self._closed:
            window = next(self._windows, None)
            if window is None:
                break
            windows.append(window)
        self.ended = len(windows) < count
        self.decode_sec += time.perf_counter() - started
        return windows

    def _free(self) -> None:
        if self._clip is not None:
            self._clip.close()
