"""Decoders for tests, and what they read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psutil
import uvloop

from service.decoding.processes import ProcessDecoding, ProcessReader
from service.inputs import MediaInput
from service.schemas import INPUT
from service.settings import Settings
from tessera.clips import Clip
from tessera.opener import ClipOpener
from tessera.windows import Window

Result = TypeVar("Result")


def media(kind: str, data: bytes, **fields: Any) -> MediaInput:
    """An input of a request."""
    item = INPUT.validate_python({"type": kind, "data": data, **fields}, strict=True)
    assert isinstance(item, MediaInput)
    return item


@asynccontextmanager
async def decoders(turns: int = 2, **settings: Any) -> AsyncIterator[ProcessDecoding]:
    """Decoders in processes, ended at the end."""
    decoding = ProcessDecoding(Settings.load(**settings), turns)
    decoding.start()
    try:
        yield decoding
    finally:
        await decoding.close()


def with_decoders(work: Callable[[ProcessDecoding], Awaitable[Result]], **settings: Any) -> Result:
    """What `work` comes to."""

    async def run() -> Result:
        async with decoders(**settings) as decoding:
            return await work(decoding)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def read(reader: ProcessReader, count: int = 2) -> tuple[list[Window], Clip]:
    """All windows, `count` at a time, and the clip."""
    windows: list[Window] = []
    try:
        while not reader.ended:
            windows += await reader.take(count)
        return windows, reader.clip
    finally:
        reader.close()


async def read_whole(decoding: ProcessDecoding, opener: ClipOpener, item: MediaInput) -> list[Window]:
    """All windows of `item`."""
    windows, _ = await read(decoding.reader(opener, item, "none"))
    return windows


def decoder_processes(nursery_of: int | None = None) -> list[psutil.Process]:
    """Those forked by the nurseries below a process, this one by default."""
    return [
        child
        for nursery in psutil.Process(nursery_of).children()
        if "service.decoding.nursery" in nursery.cmdline()
        for child in nursery.children()
    ]
