"""A decoder: reads one clip after the other, a few windows at a time, until its server hangs up."""

from __future__ import annotations

import mmap
import os
import socket
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import av.subtitles.stream  # noqa: F401 - PyAV does so with the first file that it opens, when no module can be read

from service.decoding.confinement import allow_processor_time
from service.decoding.form import WindowForm
from service.decoding.messages import PACKET_BYTES, Begin, Part, Refused, Reply, Take, decode_request, encode
from tessera.clips import MediaClip, open_media
from tessera.errors import InputError
from tessera.manifest import AudioSpec, TimeGrid, VideoSpec
from tessera.media import Excerpt
from tessera.windows import Window


def run_decoder(link: socket.socket) -> None:
    """Answer every `Take`."""
    decoder = _Decoder()
    while True:
        data, (*files,), _, _ = socket.recv_fds(link, PACKET_BYTES, 1)
        if not data:
            return
        (file,) = files
        match decode_request(data):
            case Begin() as begin:
                decoder.begin(begin, file)
            case Take() as take:
                link.send(encode(decoder.take(take, file)))


class _Decoder:
    """What it is reading."""

    def __init__(self) -> None:
        self._begun: tuple[Begin, bytes] | None = None
        self._clip: MediaClip | None = None
        self._windows: Iterator[Window]
        self._form: WindowForm

    def begin(self, begin: Begin, file: int) -> None:
        """Leave the clip before, and remember the next."""
        self._leave()
        with os.fdopen(file, "rb") as media:
            self._begun = begin, media.read()
        allow_processor_time(begin.cpu_seconds)

    def take(self, take: Take, file: int) -> Reply:
        """Decode, and write what comes into the memory behind `file`."""
        started = time.perf_counter()
        memory = mmap.mmap(file, 0)
        os.close(file)
        try:
            clip = self._clip or self._opened()
            for _ in islice(self._windows, take.skip):
                pass
            windows = list(islice(self._windows, take.count))
        except InputError as error:
            self._leave()
            return Refused(error.code, error.message, error.limit, error.actual, error.setting)
        self._form.write(memory, windows)
        part = Part(
            [window.segments for window in windows],
            len(windows) < take.count,
            clip.start_sec,
            clip.duration_sec or 0.0,
            clip.truncated,
            time.perf_counter() - started,
        )
        if part.ended:
            self._leave()
        return part

    def _leave(self) -> None:
        """Keep nothing of a clip while there is no other."""
        if self._clip is not None:
            self._clip.close()
        self._clip, self._begun, self._windows = None, None, iter(())

    def _opened(self) -> MediaClip:
        assert self._begun is not None, "a clip begins before it is taken from. This is a bug."
        begin, media = self._begun
        self._begun = None
        spec, grid = _spec(begin.spec, begin.is_audio), _grid(begin.grid)
        self._form = WindowForm.of(spec, grid)
        excerpt = Excerpt(begin.start_sec, begin.end_sec)
        self._clip = open_media(media, spec, grid, begin.limits, excerpt, begin.truncate)
        self._windows = iter(self._clip)
        return self._clip


@lru_cache(maxsize=64)
def _spec(document: bytes, is_audio: bool) -> AudioSpec | VideoSpec:
    return (AudioSpec if is_audio else VideoSpec).model_validate_json(document)


@lru_cache(maxsize=64)
def _grid(document: bytes) -> TimeGrid:
    return TimeGrid.model_validate_json(document)
