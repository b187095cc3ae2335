"""What audio and video readers share: excerpts, lengths against the limit, and reading once to the end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from tessera.bundle import TimeGrid
from tessera.containers import MediaFile, Source, readable
from tessera.errors import InputError
from tessera.limits import Limits, Truncate

_SHORTEST_SEC = 0.001
_ROUNDING_SEC = 1e-9  # 1.001 - 1.0 is less than 0.001
_Window = TypeVar("_Window")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of a clip from `start_sec` to `end_sec` (None: to its end).

    Raises:
        InputError: `invalid_value` for times that bound no part.
    """

    start_sec: float = 0.0
    end_sec: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_sec) and self.start_sec >= 0):
            raise InputError("invalid_value", "start_sec must be a number of seconds, 0 or more")
        if self.end_sec is not None and not (
            math.isfinite(self.end_sec) and self.end_sec - self.start_sec >= _SHORTEST_SEC - _ROUNDING_SEC
        ):
            raise InputError(
                "invalid_value", "end_sec must be greater than start_sec by a millisecond or more"
            )


class MediaReader(ABC, Generic[_Window]):
    """Yields the windows of one clip, once, decoding no further than it is asked to.

    Time zero is where the first of a file's two tracks starts, so that segment `i` of the sound and segment
    `i` of the picture are the same second. Lengths are those of what decodes: when a header claims more than
    the limit allows, or nothing, the packets are asked before the clip is refused. Going over the limit by
    less than `TimeGrid.min_tail_sec` is the padding of a codec and passes.

    A reader belongs to one thread at a time.
    """

    kind: Literal["audio", "video"]

    def __init__(
        self, source: Source, grid: TimeGrid, limits: Limits, excerpt: Excerpt, truncate: Truncate
    ) -> None:
        self._grid, self._limits, self._truncate = grid, limits, truncate
        self._longest = exact(limits.max_media_seconds)
        self._start = exact(excerpt.start_sec)
        self._end = None if excerpt.end_sec is None else exact(excerpt.end_sec)
        self._position = self._length = Fraction(0)
        self.truncated = False
        self._file = MediaFile(source, limits)
        try:
            self._check_stream(self._stream)
            self._origin = self._file.start
            self._check_claims()
        except BaseException:
            self._file.close()
            raise
        self._remaining = self._windows()

    @property
    def duration_sec(self) -> float:
        """Seconds read so far; when all windows are read, the clip's length after excerpt and truncation."""
        return float(self._length)

    @property
    def start_sec(self) -> float:
        """When the first segment starts: the start of the excerpt, or later if the start was dropped."""
        return float(self._start)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Window:
        try:
            return next(self._remaining)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder; no further windows come. Idempotent."""
        self._remaining.close()
        self._file.close()

    @abstractmethod
    def _windows(self) -> Generator[_Window, None, None]:
        """The windows of the clip, in order; `_advance` is told of all that is read, `_finish` of the end."""

    @property
    def _stream(self) -> AudioStream | VideoStream:
        stream = self._file.audio if self.kind == "audio" else self._file.video
        if stream is None:
            raise InputError("missing_track", f"the media has no {self.kind} track")
        return stream

    @property
    def _stop(self) -> Fraction:
        """What comes at this time or later is not used."""
        most = self._start + self._longest
        return most if self._end is None else min(most, self._end)

    def _check_stream(self, stream: AudioStream | VideoStream) -> None:
        if not readable(stream):
            raise InputError("unsupported_media", f"the codec of the {self.kind} track is not one we read")

    def _check_claims(self) -> None:
        """Compare the length with the limit before anything is decoded."""
        claimed = self._file.claimed_end(self._stream)
        if self._truncate == "end":
            return
        if self._truncate == "none" and claimed is not None and not self._too_long(claimed - self._origin):
            return
        end = self._file.measured_end(self._stream) - self._origin
        if not self._too_long(end):
            return
        if self._truncate == "none":
            raise self._length_error(end)
        self._start = self._within(end) - self._longest
        self.truncated = True

    def _advance(self, time: Fraction) -> bool:
        """Note that the media was read until `time`; say whether enough of it was.

        Raises:
            InputError: `media_too_long`, unless it may be truncated.
        """
        self._position = time
        self._length = max(Fraction(0), min(time, self._stop) - self._start)
        if self._too_long(time):
            if self._truncate == "none":
                raise self._length_error(time)
            self.truncated = True
            return True
        return self._end is not None and time >= self._end

    def _finish(self) -> int:
        """The number of segments of the clip, now that all of it was read.

        Raises:
            InputError: `invalid_value` if the media ends before the excerpt starts; `empty_input` if it holds
                nothing; `media_corrupt` if it ends before its packets said.
        """
        if self._position <= self._start:
            if not self._start:
                raise InputError("empty_input", f"the {self.kind} track is empty")
            if self.truncated:
                raise InputError("media_corrupt", f"the {self.kind} track is damaged: its times are wrong")
            raise InputError(
                "invalid_value",
                f"the excerpt starts at {float(self._start):g} s, the {self.kind} ends at "
                f"{float(self._position):.3f} s",
            )
        return self._grid.segments(float(self._length))

    def _within(self, end: Fraction) -> Fraction:
        return end if self._end is None else min(end, self._end)

    def _too_long(self, end: Fraction) -> bool:
        excess = self._within(end) - self._start - self._longest
        return excess >= exact(self._grid.min_tail_sec)

    def _length_error(self, end: Fraction) -> InputError:
        actual = float(self._within(end) - self._start)
        unit = f"seconds of {self.kind}"
        return self._limits.exceeded("max_media_seconds", "media_too_long", round(actual, 3), unit)


def exact(seconds: float) -> Fraction:
    """`seconds` as the fraction that was meant: times are compared as fractions, as containers state them."""
    return Fraction(seconds).limit_denominator(1_000_000)
