"""Frames over a stream socket, in an event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from service.frontends.frame import HEADER_BYTES, Frame, MalformedFrame, decoded, encoded, frame_bytes

_log = logging.getLogger(__name__)
_CHUNK = 256 * 1024
_JOINED = 64 * 1024
"""Smaller frames are copied into one piece: that costs less than to write many pieces."""


class FrameProtocol(asyncio.BufferedProtocol):
    """One end of a connection. A frame that does not fit the buffer is received where it stays: it is not copied."""

    def __init__(self, on_frame: Callable[[Frame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray(_CHUNK)
        self._filled = 0
        self._transport: asyncio.Transport | None = None

    @property
    def open(self) -> bool:
        """Whether the other end is there."""
        return self._transport is not None

    def send(self, frame: Frame) -> None:
        """Send a frame, which is lost if the other end is gone."""
        if self._transport is None:
            return
        parts = encoded(frame)
        if sum(map(len, parts)) <= _JOINED:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    def close(self) -> None:
        """Send what is not sent yet, then hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio's."""
        self._transport = cast(asyncio.Transport, transport)  # which uvloop's are, but not by descent

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio's."""
        self._transport = None
        self._on_lost()

    def get_buffer(self, sizehint: int) -> memoryview:
        """As asyncio's."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """As asyncio's."""
        self._filled += nbytes
        try:
            self._take_frames()
        except MalformedFrame as error:
            _log.error("a process of the server sent bytes that are no frame: %s", error)
            if self._transport is not None:
                self._transport.abort()

    def _take_frames(self) -> None:
        start, pending = 0, 0
        buffer, filled = self._buffer, self._filled
        while filled - start >= HEADER_BYTES:
            pending = frame_bytes(memoryview(buffer)[start : start + HEADER_BYTES])
            if filled - start < pending:
                break
            data = buffer if pending == len(buffer) else buffer[start : start + pending]
            start, pending = start + pending, 0
            self._on_frame(decoded(data))
        rest = buffer[start:filled]
        if start == len(buffer) or max(pending, _CHUNK) != len(buffer):
            self._buffer = bytearray(max(pending, _CHUNK))
        self._buffer[: len(rest)] = rest
        self._filled = len(rest)
