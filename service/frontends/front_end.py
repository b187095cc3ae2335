"""One front end as its owner sees it: a process, and a connection to it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass
from typing import Self

from service.frontends.jobs import FrontEndJobs


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A process that was started, and its work."""

    process: Process
    jobs: FrontEndJobs

    @classmethod
    async def started(
        cls, number: int, plan: bytes, listener: socket.socket, board: int, jobs: FrontEndJobs
    ) -> Self:
        """Start it. It has a process group of its own: Ctrl-C reaches the owner alone, which drains all."""
        ours, theirs = socket.socketpair()
        # The plan lies in memory, not in a pipe: who writes into a pipe cares whether the reader lives.
        with theirs, os.fdopen(os.memfd_create("plan"), "w+b") as planned:
            planned.write(plan)
            planned.seek(0)
            passed = (listener.fileno(), theirs.fileno(), board)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "service.frontends.process",
                *map(str, (number, *passed)),
                stdin=planned,
                pass_fds=passed,
                start_new_session=True,
            )
        await asyncio.get_running_loop().create_unix_connection(lambda: jobs.protocol, sock=ours)
        return cls(process, jobs)

    async def stopped(self, seconds: float | None) -> None:
        """Ask it to drain, wait so long, then end it; without `seconds`, it knows that it has to end."""
        if self.process.returncode is not None:
            return
        if seconds is not None:
            self.process.terminate()
        try:
            async with asyncio.timeout(seconds or _AT_ONCE_SEC):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


_AT_ONCE_SEC = 30.0
