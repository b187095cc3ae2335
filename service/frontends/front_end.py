"""One front end as its owner sees it: a process, and a connection to it."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE, Process
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
        with theirs:
            passed = (listener.fileno(), theirs.fileno(), board)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "service.frontends.process",
                *map(str, (number, *passed)),
                stdin=PIPE,
                pass_fds=passed,
                start_new_session=True,
            )
        await asyncio.get_running_loop().create_unix_connection(lambda: jobs.protocol, sock=ours)
        assert process.stdin is not None, "it has a pipe. This is a bug."
        process.stdin.write(plan)
        process.stdin.close()
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
