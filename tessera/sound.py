"""Sound: any rate, channels and format -> windows of mono float32 at the rate of the bundle."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from tessera.bundle import AudioSpec, TimeGrid
from tessera.containers import FAULTS, Source, start_of
from tessera.errors import InputError
from tessera.limits import Limits, Truncate
from tessera.readers import Excerpt, MediaReader

Samples = NDArray[np.float32]

# Without the bound swr gives the channels more weight than 1 in all: a stereo sine of 0.5 would come out as
# 0.71.
_MIXING = {"rematrix_maxval": "1.0"}
_LOWEST_RATE, _HIGHEST_RATE = 1_000, 768_000
_LONGEST_FRAME_SEC = 60


@dataclass(frozen=True, slots=True)
class Waveform:
    """A window of sound from `start_segment` on: `samples` f32 [segments * rate * hop_sec] in [-1, 1]."""

    samples: Samples
    segments: int
    start_segment: int


class AudioReader(MediaReader[Waveform]):
    """The sound track of a clip, one `Waveform` per window; the clock is the number of samples.

    An excerpt is cut from the same decoded and resampled signal as the whole clip: decoding starts at the
    start, because most formats cannot be searched to the sample, and a filter that starts elsewhere gives
    other bits.
    """

    kind = "audio"

    def __init__(
        self,
        source: Source,
        spec: AudioSpec,
        grid: TimeGrid,
        limits: Limits,
        excerpt: Excerpt,
        truncate: Truncate,
    ) -> None:
        self._rate = spec.sample_rate
        self._segment_samples = round(spec.sample_rate * grid.hop_sec)
        super().__init__(source, grid, limits, excerpt, truncate)

    def _windows(self) -> Generator[Waveform, None, None]:
        per_window = self._grid.window_segments
        window, filled, done = self._silence(per_window), 0, 0
        for block in self._excerpt():
            rest = block
            while len(rest):
                taken = rest[: len(window) - filled]
                window[filled : filled + len(taken)] = taken
                filled, rest = filled + len(taken), rest[len(taken) :]
                if filled == len(window):
                    yield Waveform(window, per_window, done)
                    window, filled, done = self._silence(per_window), 0, done + per_window
        segments = self._finish() - done
        if segments > 0:
            yield Waveform(window[: segments * self._segment_samples], segments, done)

    def _silence(self, segments: int) -> Samples:
        return np.zeros(segments * self._segment_samples, np.float32)

    def _excerpt(self) -> Iterator[Samples]:
        """The samples between `_start` and `_stop`."""
        first, last, read = round(self._start * self._rate), round(self._stop * self._rate), 0
        for block in self._signal():
            begin, read = read, read + len(block)
            enough = self._advance(Fraction(read, self._rate))
            if begin < last and read > first:
                yield block[max(first - begin, 0) : last - begin]
            if enough:
                return

    def _signal(self) -> Iterator[Samples]:
        """The whole track, a second at a time: frames are a few milliseconds, and each has its cost."""
        parts: list[Samples] = []
        held = 0
        for part in self._parts():
            parts.append(part)
            held += len(part)
            if held >= self._rate:
                yield _bounded(parts)
                parts, held = [], 0
        if parts:
            yield _bounded(parts)

    def _parts(self) -> Iterator[Samples]:
        """The whole track as it is decoded; silence first, where the track starts later than the picture."""
        first = True
        for _, alike in itertools.groupby(self._frames(), key=_form):
            resampler = av.AudioResampler("flt", "mono", self._rate, options=_MIXING)
            for frame in alike:
                if first:
                    yield from self._lead(frame)
                    first = False
                yield from _resampled(resampler, frame)
            yield from _resampled(resampler, None)

    def _frames(self) -> Iterator[av.AudioFrame]:
        for frame in self._file.frames(self._stream):
            assert isinstance(frame, av.AudioFrame)
            _check_frame(frame)
            yield frame

    def _lead(self, first: av.AudioFrame) -> Iterator[Samples]:
        """The silence before `first`, in blocks of a second: a header may claim years of it."""
        video = self._file.video
        if video is None or first.pts is None or first.time_base is None:
            return
        left = round((first.pts * first.time_base - start_of(video)) * self._rate)
        while left > 0:
            yield np.zeros(min(left, self._rate), np.float32)
            left -= self._rate


def _form(frame: av.AudioFrame) -> tuple[str, str, int]:
    """What a resampler is made for; it may change within a file."""
    return frame.format.name, frame.layout.name, frame.sample_rate


def _resampled(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> Iterator[Samples]:
    try:
        outputs = resampler.resample(frame)
    except FAULTS:
        raise InputError("unsupported_media", "these channels of sound cannot be mixed to one") from None
    for output in outputs:
        # A resampler that has nothing to do passes on all, the None of a flush too.
        if output is None:
            continue
        yield output.to_ndarray()[0]


def _bounded(parts: list[Samples]) -> Samples:
    """The parts as one, in [-1, 1]; what is no number is silence."""
    samples = np.nan_to_num(np.concatenate(parts), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(samples, -1.0, 1.0, out=samples)


def _check_frame(frame: av.AudioFrame) -> None:
    """Refuse what would make the resampler allocate without bound."""
    if not _LOWEST_RATE <= frame.sample_rate <= _HIGHEST_RATE:
        raise InputError("unsupported_media", f"sound at {frame.sample_rate} Hz is not read")
    if frame.samples > _LONGEST_FRAME_SEC * frame.sample_rate:
        raise InputError("media_corrupt", "the audio track is damaged: one frame claims minutes")
