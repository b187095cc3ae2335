"""Decoders and their nursery as the server sees them: processes behind sockets, that may die at any time."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Self

import msgspec

from service.decoding.memory import SharedMemory
from service.decoding.messages import PACKET_BYTES, Begin, Reply, Take, decode_reply, encode
from service.decoding.nursery import READY
from service.logs import structured

_INHERITED = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""Of the environment: what the interpreter needs. Secrets of the server are none of a decoder's business."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Died(Exception):
    """The process is gone, or said what is no answer."""


class Decoder:
    """One process; it belongs to whoever reads a clip with it."""

    def __init__(self, link: socket.socket, process: int) -> None:
        """`process` is a descriptor of it."""
        self.clips = 0
        self._link = link
        self._process = process

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        ended = select.poll()
        ended.register(self._process, select.POLLIN)
        return not ended.poll(0)

    def begin(self, begin: Begin, media: SharedMemory) -> None:
        """Give it a clip.

        Raises:
            Died: it cannot be given one.
        """
        self.clips += 1
        self._send(encode(begin), media)

    async def take(self, take: Take, memory: SharedMemory) -> Reply:
        """What it says once it wrote windows into `memory`.

        Raises:
            Died: it ended, or lost its mind.
        """
        self._send(encode(take), memory)
        try:
            data = await asyncio.get_running_loop().sock_recv(self._link, PACKET_BYTES)
            return decode_reply(data)
        except (OSError, msgspec.MsgspecError):
            raise Died from None

    def _send(self, data: bytes, memory: SharedMemory) -> None:
        try:
            socket.send_fds(self._link, [data], [memory.descriptor])
        except OSError:
            raise Died from None

    def end(self) -> None:
        """Kill it."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        os.close(self._process)
        self._link.close()


class Nursery:
    """The process that decoders are forked from."""

    def __init__(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._control = control
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def started(cls, memory_bytes: int) -> Self:
        """Start it.

        Raises:
            Died: it does not come up.
        """
        ours, theirs = _pair()
        with theirs:
            process = _spawn(theirs, memory_bytes)
        try:
            ready = await asyncio.get_running_loop().sock_recv(ours, len(READY)) == READY
        except OSError:
            ready = False
        except asyncio.CancelledError:
            _kill(process, ours)
            raise
        if not ready:
            _kill(process, ours)
            raise Died
        return cls(ours, process)

    async def decoder(self) -> Decoder:
        """A new one.

        Raises:
            Died: the nursery is gone.
        """
        async with self._turn:
            ours, theirs = _pair()
            try:
                with theirs:
                    socket.send_fds(self._control, [b"1"], [theirs.fileno()])
                await _readable(self._control)
                data, files, _, _ = socket.recv_fds(self._control, 1, 1)
            except OSError:
                data, files = b"", []
            except asyncio.CancelledError:
                ours.close()
                raise
            if not (data and files):
                ours.close()
                raise Died
            return Decoder(ours, files[0])

    async def close(self) -> None:
        """Hang up: it ends then, and so do the decoders whose server is gone."""
        self._control.close()
        await asyncio.to_thread(self._process.wait)


def _spawn(control: socket.socket, memory_bytes: int) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "service.decoding.nursery",
            str(control.fileno()),
            str(memory_bytes),
            "json" if structured() else "text",
        ],
        pass_fds=[control.fileno()],
        stdin=subprocess.DEVNULL,
        env=environment | _ONE_THREAD,
    )


def _kill(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()


def _pair() -> tuple[socket.socket, socket.socket]:
    """Packets arrive whole; the server never waits for them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


async def _readable(link: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def note() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(link, note)
    try:
        await readable
    finally:
        loop.remove_reader(link)
