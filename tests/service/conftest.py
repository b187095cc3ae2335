"""One real server for the session, and inputs of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tessera.tokenizer import Tokenizer
from tests.media_files import chirp, shades, sound_file, video_file
from tests.service.running import RunningServer, running_server


@pytest.fixture(scope="session")
def server(bundle_dir: Path) -> Iterator[RunningServer]:
    with running_server(bundle_dir) as running:
        running.await_ready()
        yield running


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def tokenizer(bundle_dir: Path) -> Tokenizer:
    return Tokenizer.load(bundle_dir)


@pytest.fixture(scope="session")
def wav() -> bytes:
    """12.5 seconds of sound: two windows, the second one short."""
    return sound_file("wav", chirp(12.5), 16_000)


@pytest.fixture(scope="session")
def mp4() -> bytes:
    """4 seconds of picture with 3 seconds of sound."""
    return video_file("mp4", shades(np.linspace(0, 255, 40)), 10, sound=(chirp(3.0), 16_000))
