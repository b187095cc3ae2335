"""`python -m tests.service.frontends.doomed BUNDLE`: two front ends before a device that dies at the signal USR1."""

from __future__ import annotations

import signal
import sys

from service.bundles import LoadedBundle
from service.frontends.supervisor import serve_with_front_ends
from service.settings import Settings
from tests.service.faults import Faulty


def load(_: Settings) -> list[LoadedBundle]:
    """One model whose device can be killed."""
    faulty = Faulty.load(sys.argv[1]).arm()

    def kill(*_: object) -> None:
        faulty.deadly = True

    signal.signal(signal.SIGUSR1, kill)
    return [LoadedBundle("tiny", faulty)]


if __name__ == "__main__":
    serve_with_front_ends(Settings.load(port=0, frontends=2), load)
